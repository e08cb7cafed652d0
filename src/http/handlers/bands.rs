//! `/NAME/bands`: levels of bands of frequencies, for the spectrogram of a page whose browser plays the stream by itself.

use super::not_found::not_found;
use crate::http::context::Context;
use crate::http::exchange::Exchange;
use crate::http::response::Response;
use crate::http::target::BandsQuery;
use crate::media::spectrum::columns;

/// The most columns in an answer, each of a tenth of a second: they bound what a request costs.
const MOST: usize = 20;
/// The character of 0 dB. That of -100 dB is `#`.
const ZERO_DB: i16 = 135;

/// Answers with the columns from `query.from` on of a stream of the input `name`: a JSON array of strings, each with a character
/// for each band. Empty while there is no such stream, or no such sound in it.
pub(crate) fn serve(context: &Context, exchange: Exchange, name: &str, query: BandsQuery) {
    let Some(input) = context.input(name) else { return not_found(context, exchange) };
    let ring = input.ring().filter(|ring| ring.id() == query.stream);
    let columns = ring.map(|ring| columns(&ring, query.from, MOST)).unwrap_or_default();
    let text = |levels: &[i8]| -> String { levels.iter().map(|level| character(*level)).collect() };
    let columns: Vec<String> = columns.iter().map(|levels| text(levels)).collect();
    // Strings have no way to fail.
    exchange.respond(Response::json(serde_json::to_string(&columns).unwrap_or_default()));
}

fn character(level: i8) -> char {
    char::from(u8::try_from(i16::from(level) + ZERO_DB).unwrap_or(b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_a_character() {
        assert_eq!(character(-100), '#');
        assert_eq!(character(-13), 'z');
        assert_eq!(character(0), '\u{87}');
    }
}
