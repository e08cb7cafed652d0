//! The names of the station and of its inputs: titles for people, and aliases for old addresses.

use super::{Config, Station};

/// The name that reaches the first input where no input has it, so that an address outlives the renaming of an input.
const DEFAULT_NAME: &str = "live";

/// The names of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    /// Title and description of the station.
    pub station: Station,
    /// The names of each input, in the order of the configuration.
    inputs: Vec<InputNames>,
}

#[derive(Clone, Debug, PartialEq)]
struct InputNames {
    name: String,
    title: Option<String>,
    aliases: Vec<String>,
}

impl Names {
    /// Returns the name of the input that `name` reaches: `name` itself, the input that has it as an alias, or for `live` the
    /// first input.
    pub fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        let by = |is_it: &dyn Fn(&&InputNames) -> bool| self.inputs.iter().find(is_it);
        by(&|input| input.name == name)
            .or_else(|| by(&|input| input.aliases.iter().any(|alias| alias == name)))
            .or_else(|| self.inputs.first().filter(|_| name == DEFAULT_NAME))
            .map_or(name, |input| &input.name)
    }

    /// Returns the title of an input: the configured one, or else its name.
    pub fn title<'a>(&'a self, name: &'a str) -> &'a str {
        let input = self.inputs.iter().find(|input| input.name == name);
        input.and_then(|input| input.title.as_deref()).unwrap_or(name)
    }
}

impl Config {
    /// Returns the names of the station and its inputs.
    pub fn names(&self) -> Names {
        let inputs = self.inputs.iter().map(|input| InputNames {
            name: input.name.clone(),
            title: input.title.clone(),
            aliases: input.aliases.clone(),
        });
        Names { station: self.station.clone(), inputs: inputs.collect() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(text: &str) -> Names {
        Config::parse(text, "w.toml").unwrap().names()
    }

    #[test]
    fn an_alias_reaches_its_input_and_live_the_first_one() {
        let two = "[input.roof]\ntitle = 'Roof'\naliases = ['old']\n[input.cellar]\ndevice = 'hw:1'\n";
        let names = names(two);
        for (name, expected) in
            [("roof", "roof"), ("cellar", "cellar"), ("old", "roof"), ("live", "roof"), ("attic", "attic")]
        {
            assert_eq!(names.resolve(name), expected, "{name}");
        }
        assert_eq!((names.title("roof"), names.title("cellar")), ("Roof", "cellar"));
    }

    #[test]
    fn a_name_or_an_alias_wins_over_the_first_input() {
        let resolve = |text: &str| names(text).resolve("live").to_owned();
        assert_eq!(resolve("[input.a]\n[input.live]\ndevice = 'hw:1'"), "live");
        assert_eq!(resolve("[input.a]\n[input.b]\ndevice = 'hw:1'\naliases = 'live'"), "b");
        assert_eq!(resolve(""), "live");
    }
}
