//! The command line: its arguments, and the text of `--help`.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use lexopt::Arg;

use crate::config::{self, Overrides};

/// The configuration file without `--config`. It may be absent.
pub const DEFAULT_CONFIG: &str = "/etc/wavecast.toml";

/// The text of `wavecast --help`. `scripts/docs` makes the man page and the shells' completions from it.
pub const HELP: &str = include_str!("help.txt");

/// A command of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stream until a signal ends the program.
    Run,
    /// `devices`: list the capture cards.
    Devices,
    /// `check`: report mistakes of the configuration, and conditions that keep it from running. Opens no card and no port.
    Check,
    /// `password`: a user of the file that `[access] passwords` names.
    Password(Edit),
    /// `token`: a token of that file.
    Token(Edit),
    /// `--help`: print [`HELP`].
    Help,
    /// `--version`: print name and version.
    Version,
}

/// A change of the file of passwords and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// `NAME`: add or replace the entry. Writes the file if root calls at a terminal; else prints the line.
    Auto(String),
    /// `--write NAME`: add or replace the entry in the file.
    Write(String),
    /// `--print NAME`: print the line, and change no file.
    Print(String),
    /// `--delete NAME`: remove the entry.
    Delete(String),
    /// `--list`: print the names.
    List,
}

/// The parsed command line.
#[derive(Clone, Debug, PartialEq)]
pub struct Cli {
    /// The command.
    pub command: Command,
    /// `--config`. `None` is [`DEFAULT_CONFIG`], which may be absent.
    pub config: Option<PathBuf>,
    /// Values that replace those of the configuration. Ranges are checked when they are applied.
    pub overrides: Overrides,
}

impl Cli {
    /// Parses the arguments, the program's name first, as [`std::env::args_os`] returns them.
    ///
    /// `--help` and `--version` end the parsing; later arguments do not matter. Of a repeated option the last one counts,
    /// but of `--listen` all do.
    ///
    /// # Errors
    /// An unknown option or command, a missing value, or an invalid value.
    pub fn parse<I>(args: I) -> Result<Cli, UsageError>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let mut parser = lexopt::Parser::from_args(args.into_iter().skip(1));
        let mut command = None;
        let mut config = None;
        let mut overrides = Overrides::default();
        let mut edit: Option<EditWords> = None;

        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Short('h') | Arg::Long("help") => {
                    return Ok(Cli { command: Command::Help, config, overrides });
                }
                Arg::Short('V') | Arg::Long("version") => {
                    return Ok(Cli { command: Command::Version, config, overrides });
                }
                Arg::Short('c') | Arg::Long("config") => config = Some(parser.value()?.into()),
                Arg::Long("device") => overrides.device = Some(value(&mut parser, "--device", str::parse)?),
                Arg::Long("rate") => overrides.rate = Some(value(&mut parser, "--rate", config::parse_rate)?),
                Arg::Long("channels") => {
                    overrides.channels = Some(value(&mut parser, "--channels", config::parse_channels)?);
                }
                Arg::Long("format") => {
                    overrides.format = Some(value(&mut parser, "--format", config::parse_format)?);
                }
                Arg::Long("listen") => {
                    let address = value(&mut parser, "--listen", str::parse)?;
                    overrides.listen.get_or_insert_default().push(address);
                }
                Arg::Long("log") => {
                    let filter = value(&mut parser, "--log", |text| {
                        text.parse::<crate::sys::logging::Filter>()
                            .map(|_| text.to_owned())
                            .map_err(|error| error.to_string())
                    })?;
                    overrides.log = Some(filter);
                }
                Arg::Long(action @ ("write" | "print" | "delete" | "list")) if edit.is_some() => {
                    let action = action.to_owned();
                    if let Some(edit) = &mut edit {
                        edit.set_action(action)?;
                    }
                }
                Arg::Value(word) => match &mut edit {
                    Some(edit) => edit.set_name(word)?,
                    None if word == "password" || word == "token" => {
                        if command.is_some() {
                            return Err(second_command(&word));
                        }
                        edit = Some(EditWords::of(word == "token"));
                    }
                    None => command = Some(subcommand(&word, command)?),
                },
                Arg::Long(name) => return Err(unknown_option(name)),
                Arg::Short(_) => return Err(arg.unexpected().into()),
            }
        }
        let command = match edit {
            Some(edit) => edit.finish()?,
            None => command.unwrap_or(Command::Run),
        };
        Ok(Cli { command, config, overrides })
    }
}

/// The words behind `password` or `token`, in any order.
struct EditWords {
    is_token: bool,
    name: Option<String>,
    action: Option<String>,
}

impl EditWords {
    fn of(is_token: bool) -> EditWords {
        EditWords { is_token, name: None, action: None }
    }

    fn usage(&self) -> &'static str {
        if self.is_token { "wavecast token NAME" } else { "wavecast password USER" }
    }

    fn set_action(&mut self, action: String) -> Result<(), UsageError> {
        match self.action.replace(action) {
            None => Ok(()),
            Some(_) => Err(UsageError("give only one of --write, --print, --delete and --list".to_owned())),
        }
    }

    fn set_name(&mut self, word: OsString) -> Result<(), UsageError> {
        let name = word.into_string().map_err(|word| UsageError(format!("{word:?} is not UTF-8 text")))?;
        match self.name.replace(name) {
            None => Ok(()),
            Some(_) => {
                Err(UsageError(format!("give only one name, in quotes if it has spaces: {}", self.usage())))
            }
        }
    }

    fn finish(self) -> Result<Command, UsageError> {
        let usage = self.usage();
        let edit = match (self.action.as_deref(), self.name) {
            (Some("list"), None) => Edit::List,
            (Some("list"), Some(_)) => return Err(UsageError("--list takes no name".to_owned())),
            (_, None) => return Err(UsageError(format!("the name is missing: {usage}"))),
            (None, Some(name)) => Edit::Auto(name),
            (Some("write"), Some(name)) => Edit::Write(name),
            (Some("print"), Some(name)) => Edit::Print(name),
            (Some(_), Some(name)) => Edit::Delete(name),
        };
        Ok(if self.is_token { Command::Token(edit) } else { Command::Password(edit) })
    }
}

/// Returns the value of the option that was just read.
fn value<T>(
    parser: &mut lexopt::Parser,
    option: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, UsageError> {
    let value = parser.value()?;
    let Some(text) = value.to_str() else {
        return Err(UsageError(format!("{option}: {value:?} is not UTF-8 text")));
    };
    read(text).map_err(|problem| UsageError(format!("{option}: {problem}")))
}

fn subcommand(word: &OsString, earlier: Option<Command>) -> Result<Command, UsageError> {
    let command = match word.to_str() {
        Some("devices") => Command::Devices,
        Some("check") => Command::Check,
        _ => return Err(unknown_command(&word.to_string_lossy())),
    };
    match earlier {
        None => Ok(command),
        Some(_) => Err(second_command(word)),
    }
}

fn second_command(word: &OsString) -> UsageError {
    UsageError(format!("{word:?} is a second command; give only one"))
}

fn unknown_command(word: &str) -> UsageError {
    const COMMANDS: [&str; 4] = ["devices", "check", "password", "token"];
    let hint = match config::near(word, &COMMANDS) {
        Some(near) => format!("did you mean {near}?"),
        None => "the commands are devices, check, password and token".to_owned(),
    };
    UsageError(format!("unknown command {word:?}; {hint}"))
}

fn unknown_option(name: &str) -> UsageError {
    const OPTIONS: [&str; 13] = [
        "config", "device", "rate", "channels", "format", "listen", "log", "help", "version", "write",
        "print", "delete", "list",
    ];
    if let "write" | "print" | "delete" | "list" = name {
        return UsageError(format!("--{name} belongs behind a command: wavecast password --{name}"));
    }
    let mut message = format!("unknown option {:?}", format!("--{name}"));
    if let Some(near) = config::near(name, &OPTIONS) {
        message.push_str(&format!("; did you mean --{near}?"));
    }
    UsageError(message)
}

/// A mistake of the command line, with a reference to `--help`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> UsageError {
        UsageError(error.to_string())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nTry 'wavecast --help'", self.0)
    }
}

impl std::error::Error for UsageError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Config, Device, ListenAddr};
    use crate::media::format::SampleFormat;
    use std::os::unix::ffi::OsStringExt;

    fn cli(args: &str) -> Cli {
        Cli::parse(format!("wavecast {args}").split_whitespace()).unwrap()
    }

    /// Returns the first line of the error. The second line is always the same.
    fn error(args: &str) -> String {
        let error = Cli::parse(format!("wavecast {args}").split_whitespace()).unwrap_err().to_string();
        error.strip_suffix("\nTry 'wavecast --help'").unwrap().to_owned()
    }

    #[test]
    fn no_arguments_mean_run() {
        assert_eq!(cli(""), Cli { command: Command::Run, config: None, overrides: Overrides::default() });
        assert_eq!(Cli::parse([] as [&str; 0]).unwrap(), cli(""));
    }

    #[test]
    fn commands_may_stand_before_and_after_options() {
        assert_eq!(cli("devices").command, Command::Devices);
        let check = cli("--config a.toml check");
        assert_eq!((check.command, check.config), (Command::Check, Some("a.toml".into())));
        assert_eq!(cli("check -ca.toml").config, Some("a.toml".into()));
        assert_eq!(cli("check --config=a.toml").config, Some("a.toml".into()));
    }

    #[test]
    fn help_and_version_ignore_later_arguments() {
        assert_eq!(cli("--help --what").command, Command::Help);
        assert_eq!(cli("check -h").command, Command::Help);
        assert_eq!(cli("-V").command, Command::Version);
        assert_eq!(cli("--version").command, Command::Version);
    }

    #[test]
    fn every_option_is_parsed() {
        let args =
            "--device hw:1 --rate 48000 --channels 1 --format s24 --listen :80 --listen [::1]:81 --log debug";
        assert_eq!(
            cli(args).overrides,
            Overrides {
                device: Some(Device::Alsa("hw:1".to_owned())),
                rate: Some(48_000),
                channels: Some(1),
                format: Some(SampleFormat::S24),
                listen: Some(vec![ListenAddr::Any(80), "[::1]:81".parse().unwrap()]),
                log: Some("debug".to_owned()),
            }
        );
    }

    #[test]
    fn the_last_of_a_repeated_option_counts() {
        assert_eq!(cli("--rate 8000 --rate 48000").overrides.rate, Some(48_000));
    }

    #[test]
    fn an_error_about_a_value_names_its_option() {
        assert_eq!(error("--rate 99"), "--rate: 99 is outside 4000 to 384000");
        assert_eq!(error("--rate fast"), "--rate: \"fast\" must be a whole number from 4000 to 384000");
        assert_eq!(error("--channels 70000"), "--channels: 70000 is outside 1 to 32");
        assert_eq!(error("--channels=-1"), "--channels: -1 is outside 1 to 32");
        assert_eq!(error("--format mp3"), "--format: \"mp3\" must be one of s16, s24 or s32");
        assert_eq!(error("--device Auto"), "--device: \"Auto\" is not a device; did you mean \"auto\"?");
        assert!(error("--listen here").starts_with("--listen: \"here\" is not an address"));
        assert!(error("--log loud").starts_with("--log: \"loud\" is not off, error"));
        assert_eq!(error("--rate"), "missing argument for option '--rate'");
    }

    #[test]
    fn passwords_and_tokens_need_a_name() {
        let anna = || "anna".to_owned();
        for (args, expected) in [
            ("password anna", Command::Password(Edit::Auto(anna()))),
            ("password --print anna", Command::Password(Edit::Print(anna()))),
            ("password --delete anna", Command::Password(Edit::Delete(anna()))),
            ("password anna --write -c a.toml", Command::Password(Edit::Write(anna()))),
            ("token anna", Command::Token(Edit::Auto(anna()))),
            ("token anna --delete", Command::Token(Edit::Delete(anna()))),
            ("token --list", Command::Token(Edit::List)),
            ("password password", Command::Password(Edit::Auto("password".to_owned()))),
            ("password --help", Command::Help),
        ] {
            assert_eq!(cli(args).command, expected, "{args}");
        }
        for (args, expected) in [
            ("password", "the name is missing: wavecast password USER"),
            ("token --delete", "the name is missing: wavecast token NAME"),
            ("token --list radio", "--list takes no name"),
            ("password a b", "give only one name, in quotes if it has spaces: wavecast password USER"),
            ("password --print --write a", "give only one of --write, --print, --delete and --list"),
            ("--list", "--list belongs behind a command: wavecast password --list"),
            ("check password", "\"password\" is a second command; give only one"),
        ] {
            assert_eq!(error(args), expected, "{args}");
        }
    }

    #[test]
    fn unknown_words_are_refused() {
        assert_eq!(error("--chanels 1"), "unknown option \"--chanels\"; did you mean --channels?");
        assert_eq!(error("--colour"), "unknown option \"--colour\"");
        assert_eq!(error("-x"), "invalid option '-x'");
        assert_eq!(error("device"), "unknown command \"device\"; did you mean devices?");
        assert_eq!(
            error("play"),
            "unknown command \"play\"; the commands are devices, check, password and token"
        );
        assert_eq!(error("check devices"), "\"devices\" is a second command; give only one");
    }

    #[test]
    fn arguments_must_be_text_except_for_a_path() {
        let odd = OsString::from_vec(b"\xff".to_vec());
        let parse = |option: &str| Cli::parse([OsString::from("wavecast"), option.into(), odd.clone()]);
        assert_eq!(parse("--config").unwrap().config, Some(PathBuf::from(&odd)));
        assert!(parse("--device").unwrap_err().to_string().contains("is not UTF-8 text"));
        assert!(parse("check").unwrap_err().to_string().contains("unknown command"));
    }

    #[test]
    fn options_apply_to_the_configuration() {
        let mut config = Config::default();
        config
            .apply(&cli("--rate 384000 --channels 1 --format s32 --listen 80 --log trace").overrides)
            .unwrap();
        assert_eq!(config.inputs[0].rate, 384_000);
    }

    #[test]
    fn the_help_fits_a_terminal_and_names_every_option() {
        for line in HELP.lines() {
            assert!(line.chars().count() < 80 && line.trim_end() == line, "{line:?}");
        }
        for word in [
            "-c, --config",
            "--device",
            "--rate",
            "--channels",
            "--format",
            "--listen",
            "--log",
            "-h, --help",
            "-V, --version",
            "wavecast devices",
            "wavecast check",
            "wavecast password USER",
            "wavecast token NAME",
            "--write",
            "--print",
            "--delete",
            "--list",
            DEFAULT_CONFIG,
        ] {
            assert!(HELP.contains(word), "{word}");
        }
    }
}
