//! The commands that run no daemon: `check`, `password`, `token`; and the configuration as they and the daemon read it.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use wavecast::capture::devices::SystemPaths;
use wavecast::cli::{Cli, DEFAULT_CONFIG, Edit};
use wavecast::config::{self, Config};
use wavecast::daemon::{AudienceSummary, InputSummary, PushSummary, preflight};
use wavecast::http::access::credential_file::{Change, CredentialFile, Kind, check_name};
use wavecast::http::access::tokens::Token;
use wavecast::http::access::{Access, passwords};

/// The file of passwords and tokens where the configuration names none.
const DEFAULT_CREDENTIALS: &str = "/etc/wavecast.passwords";
/// The line that ends a change of that file: no command reloads the service by itself.
const APPLY: &str = "To apply this: sudo systemctl reload wavecast";

/// The reason why a command failed.
pub(crate) enum Failure {
    /// The configuration has a mistake.
    Config(String),
    /// Anything else.
    Other(String),
}

/// Checks the configuration as start and reload do, and this machine as the service sees it. Returns a summary of what would
/// run, or all errors.
pub(crate) fn check(cli: &Cli) -> Result<String, String> {
    let config = load_config(cli)?;
    let report = preflight::check(&config, &SystemPaths::default());
    let (path, explicit) = path(cli);
    let mut errors: Vec<String> = report.errors.iter().map(|error| with_place(&path, error)).collect();
    if !report.passwords_unread {
        errors.extend(Access::new(&config.access).err().map(|error| with_place(&path, &error)));
    }
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    let mut summary = match explicit || Path::new(&path).exists() {
        true => format!("{} is good.\n", path.display()),
        false => format!("{} does not exist; the built-in defaults apply.\n", path.display()),
    };
    for drop_in in config::drop_ins(&path).unwrap_or_default() {
        summary.push_str(&format!("{} is good, and wins over what is read before it.\n", drop_in.display()));
    }
    for input in &config.inputs {
        summary.push_str(&format!("{}\n", InputSummary(input)));
    }
    for push in &config.pushes {
        summary.push_str(&format!("{}\n", PushSummary(push)));
    }
    if !report.socket_unit {
        let listen: Vec<String> = config.http.listen.iter().map(ToString::to_string).collect();
        summary.push_str(&format!("Listening on {}\n", listen.join(", ")));
    }
    summary.push_str(&format!("{}\n", AudienceSummary { config: &config, socket_unit: report.socket_unit }));
    for warning in &report.warnings {
        summary.push_str(&format!("Warning: {}\n", with_place(&path, warning)));
    }
    for note in &report.notes {
        summary.push_str(&format!("Note: {note}\n"));
    }
    Ok(summary)
}

/// Runs `wavecast password`.
pub(crate) fn password(cli: &Cli, edit: &Edit) -> Result<(), Failure> {
    let file = Credentials::of(cli, Kind::User)?;
    match edit {
        Edit::List => file.list(),
        Edit::Delete(user) => file.delete(user),
        Edit::Auto(user) | Edit::Write(user) | Edit::Print(user) => {
            check_name(user).map_err(Failure::Other)?;
            let writes = file.open_if_written(edit)?;
            let line = passwords::line(user, &ask(user)?).map_err(Failure::Other)?;
            match writes {
                Some(writes) => file.write(writes, &line),
                None => file.print(&line, edit, "password"),
            }
        }
    }
}

/// Runs `wavecast token`.
pub(crate) fn token(cli: &Cli, edit: &Edit) -> Result<(), Failure> {
    let file = Credentials::of(cli, Kind::Token)?;
    match edit {
        Edit::List => file.list(),
        Edit::Delete(name) => file.delete(name),
        Edit::Auto(name) | Edit::Write(name) | Edit::Print(name) => {
            check_name(name).map_err(Failure::Other)?;
            let writes = file.open_if_written(edit)?;
            let token = Token::random().map_err(Failure::Other)?;
            let line = format!("{name}:{}", token.digest());
            let hint = "This is the token, which is stored nowhere. Players take it in the address: \
                        http://HOST:4410/live.wav?token=";
            match writes {
                Some(writes) => {
                    file.write(writes, &line)?;
                    eprintln!("{hint}…");
                    println!("{}", token.reveal());
                    Ok(())
                }
                // The line belongs in a file, and only the line goes there.
                None => {
                    eprintln!("{hint}{}", token.reveal());
                    file.print(&line, edit, "token")
                }
            }
        }
    }
}

/// Reads the configuration, the options of the command line, and the password file.
pub(crate) fn load(cli: &Cli) -> Result<(Config, Access), String> {
    let config = load_config(cli)?;
    let access = Access::new(&config.access).map_err(|error| with_place(&path(cli).0, &error))?;
    Ok((config, access))
}

/// The file of passwords and tokens, as a command about one kind of its entries uses it.
struct Credentials {
    path: PathBuf,
    kind: Kind,
    /// The configuration, if it does not name the file.
    unnamed_in: Option<PathBuf>,
}

impl Credentials {
    /// Finds the file that the configuration names.
    fn of(cli: &Cli, kind: Kind) -> Result<Credentials, Failure> {
        let named = load_config(cli).map_err(Failure::Config)?.access.passwords;
        let unnamed_in = named.is_none().then(|| path(cli).0);
        Ok(Credentials { path: named.unwrap_or_else(|| DEFAULT_CREDENTIALS.into()), kind, unnamed_in })
    }

    fn open(&self) -> Result<CredentialFile, Failure> {
        CredentialFile::open(&self.path).map_err(Failure::Other)
    }

    /// Returns the file if this edit writes it. In a pipe the line is printed: `wavecast password anna >> FILE`.
    fn open_if_written(&self, edit: &Edit) -> Result<Option<CredentialFile>, Failure> {
        let writes = match edit {
            Edit::Auto(_) => geteuid().is_root() && io::stdout().is_terminal(),
            edit => matches!(edit, Edit::Write(_)),
        };
        writes.then(|| self.open()).transpose()
    }

    fn print(&self, line: &str, edit: &Edit, command: &str) -> Result<(), Failure> {
        println!("{line}");
        if let (Edit::Auto(name), true) = (edit, io::stdout().is_terminal()) {
            let path = self.path.display();
            eprintln!("This line belongs in {path}. This writes it there: sudo wavecast {command} '{name}'");
        }
        Ok(())
    }

    fn list(&self) -> Result<(), Failure> {
        let names = self.open()?.names(self.kind).map_err(Failure::Other)?;
        names.iter().for_each(|name| println!("{name}"));
        if names.is_empty() {
            eprintln!("There is no {} in {}.", self.noun(), self.path.display());
        }
        Ok(())
    }

    /// Adds a line, or replaces the one with its name.
    fn write(&self, mut file: CredentialFile, line: &str) -> Result<(), Failure> {
        let change = file.set(line);
        self.save(&file)?;
        let (name, path) = (line.split(':').next().unwrap_or_default(), self.path.display());
        match (change, self.kind) {
            (Change::Replaced, Kind::User) => eprintln!("The password of {name} was changed in {path}."),
            (Change::Replaced, Kind::Token) => {
                eprintln!(
                    "The token {name} was replaced in {path}. The old one is refused from the next reload on."
                );
            }
            (Change::Added | Change::Removed, _) => {
                eprintln!("The {} {name} was added to {path}.", self.noun());
            }
        }
        self.explain_use();
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), Failure> {
        let (mut file, path) = (self.open()?, self.path.display());
        if file.remove(name, self.kind).is_none() {
            return Err(Failure::Other(format!("There is no {} {name:?} in {path}.", self.noun())));
        }
        self.save(&file)?;
        eprintln!("The {} {name} was removed from {path}.", self.noun());
        if file.is_empty() {
            eprintln!(
                "The file has no user and no token now. wavecast refuses such a file, and a reload changes nothing. Add a \
                 user; or remove the key `passwords`, and everybody whom [access] allow names may listen."
            );
        } else {
            self.explain_use();
        }
        Ok(())
    }

    fn save(&self, file: &CredentialFile) -> Result<(), Failure> {
        // The owner of the file does not change for a user who is not root.
        let group = geteuid().is_root().then(|| preflight::service_group(&SystemPaths::default())).flatten();
        file.write(group).map_err(Failure::Other)
    }

    /// Says how the change comes into force.
    fn explain_use(&self) {
        if let Some(config) = &self.unnamed_in {
            let config = config.display();
            eprintln!("{config} does not name this file yet. Add this line there, below [access]:");
            eprintln!("    passwords = {:?}", self.path.display().to_string());
        }
        eprintln!("{APPLY}");
    }

    fn noun(&self) -> &'static str {
        match self.kind {
            Kind::User => "user",
            Kind::Token => "token",
        }
    }
}

/// Asks for a password: at a terminal twice, from a pipe once.
fn ask(user: &str) -> Result<String, Failure> {
    let problem = |error: io::Error| Failure::Other(format!("no password: {error}"));
    if !io::stdin().is_terminal() {
        let text = io::read_to_string(io::stdin().lock()).map_err(problem)?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    let password = rpassword::prompt_password(format!("Password for {user}: ")).map_err(problem)?;
    match rpassword::prompt_password("Repeat password: ").map_err(problem)? == password {
        true => Ok(password),
        false => Err(Failure::Other("The passwords do not match; nothing was written.".to_owned())),
    }
}

/// Reads the configuration and the options of the command line.
fn load_config(cli: &Cli) -> Result<Config, String> {
    let (path, explicit) = path(cli);
    let mut config = Config::load(&path, explicit).map_err(|error| error.to_string())?;
    config.apply(&cli.overrides).map_err(|error| error.to_string())?;
    Ok(config)
}

/// Puts the file and the line of its key before a text that begins with a key of the configuration, `access.passwords: …`. A
/// text that begins with a file has its place already.
fn with_place(config: &Path, text: &str) -> String {
    let key = text.split(": ").next().unwrap_or_default();
    if key.contains('/') {
        return text.to_owned();
    }
    let file = config::file_of(config, key);
    match Config::line_of(&file, key) {
        Some(line) => format!("{}:{line}: {text}", file.display()),
        None => format!("{}: {text}", file.display()),
    }
}

/// Returns the path of the configuration, and `true` if the command line names it.
fn path(cli: &Cli) -> (PathBuf, bool) {
    match &cli.config {
        Some(path) => (path.clone(), true),
        None => (PathBuf::from(DEFAULT_CONFIG), false),
    }
}
