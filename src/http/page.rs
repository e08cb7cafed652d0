//! The page: a player, the links, the state. Plain HTML; a later one will be beautiful.

use std::fmt::{self, Write as _};

use crate::audio::input::{LiveInput, Phase};
use crate::hub::Hub;

const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}\
body{max-width:42rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}\
audio{width:100%}\
section{border-top:1px solid #8888;padding:1rem 0}\
.problem{border-left:.25rem solid #c60;padding-left:.75rem}\
footer{border-top:1px solid #8888;padding:1rem 0;font-size:.875rem}";

/// The page as it is now.
pub fn render(hub: &Hub) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\n\
         <title>wavecast</title>\n<link rel=icon href=\"data:,\">\n<style>{STYLE}</style>\n\
         <h1>wavecast</h1>\n"
    );
    for input in hub.inputs() {
        section(&mut page, &input);
    }
    let listeners = match hub.listeners.count() {
        0 => "Nobody listens".to_owned(),
        1 => "1 listener".to_owned(),
        n => format!("{n} listeners"),
    };
    let _ = writeln!(
        page,
        "<footer>{listeners} · <a href=/status.json>state</a> · wavecast {}</footer>",
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn section(page: &mut String, input: &LiveInput) {
    let state = input.state();
    // Names are letters, digits, - and _ only: the configuration takes no others.
    let name = &input.name;
    let _ = write!(
        page,
        "<section>\n<h2>{name}</h2>\n\
         <audio controls preload=none src=\"/{name}.wav\" aria-label=\"{name}, live\"></audio>\n"
    );
    let source =
        state.source.as_ref().map_or(state.device.as_str(), |s| s.card.as_deref().unwrap_or(&s.device));
    let format = input.ring().map(|ring| format!(" · {}", ring.format())).unwrap_or_default();
    let problem = Escaped(match state.problem.as_str() {
        "" => "it is being opened",
        problem => problem,
    });
    match state.phase {
        Phase::Capturing => {
            let _ = writeln!(page, "<p>{}{format}</p>", Escaped(source));
        }
        Phase::Waiting => {
            let _ = writeln!(page, "<p class=problem>No sound yet: {problem}</p>");
        }
        Phase::Lost => {
            let _ = writeln!(
                page,
                "<p class=problem>Silent for {} s: {problem}</p>",
                state.since.elapsed().as_secs()
            );
        }
    }
    let _ = write!(
        page,
        "<p>For other players: <a href=\"/{name}.wav\">{name}.wav</a>, \
         <a href=\"/{name}.m3u\">m3u</a>, <a href=\"/{name}.pls\">pls</a></p>\n</section>\n"
    );
}

/// A text in HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_card_calls_itself_is_text() {
        assert_eq!(Escaped("<b>&\"x\"").to_string(), "&lt;b&gt;&amp;&quot;x&quot;");
    }
}
