//! Conditions of this machine that keep a good configuration from running: ports, permissions, memory, cards.
//!
//! `wavecast check` reports them all and fails. Start and reload of the daemon meet the same conditions: they use the same
//! functions, work around a condition where they can (a shorter history, the other addresses), and log it.
//!
//! The service runs as a user of its own, so its view is the one that counts. `wavecast check` by root looks with that
//! user's eyes; by that user itself, as a reload of the unit runs it, it asks the kernel; by any other user it says of a file
//! that it may not read that the file was not checked.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use rustix::process::{getegid, geteuid};

use super::describe::is_for_this_machine_alone;
use super::memory::{Memory, held_by_other_wavecasts, ring_bytes, shown_bytes};
use crate::capture::devices::SystemPaths;
use crate::config::{Config, Hardware, Input, ListenAddr, NO_TLS, Network, Password, Protocol, Push};
use crate::http::access;
use crate::push;

/// The user of the unit `wavecast.service`.
const SERVICE_USER: &str = "wavecast";
/// The group of ALSA's devices, which is the group of the unit.
const SERVICE_GROUP: &str = "audio";
/// The capability to listen on ports below 1024, as a bit of `CapEff` in `/proc/self/status` (capabilities(7)).
const NET_BIND_SERVICE: u64 = 1 << 10;
/// The folder in which `systemctl enable wavecast.socket` makes a link, below `/etc`.
const ENABLED_SOCKET: &str = "systemd/system/sockets.target.wants/wavecast.socket";
/// The advice for a port below 1024.
pub(super) const PORT_ADVICE: &str = "ports below 1024 are for root, and for the socket unit: \
     sudo systemctl stop wavecast; sudo systemctl enable --now wavecast.socket; sudo systemctl start wavecast. \
     The port stands in that unit: sudo systemctl edit wavecast.socket";

/// The result of [`check`].
#[derive(Debug, Default)]
pub struct Report {
    /// Conditions that keep the configuration, or a part of it, from running. Each begins with its key.
    pub errors: Vec<String>,
    /// Conditions that endanger the listeners or the owner, though the configuration runs. Each begins with its key.
    pub warnings: Vec<String>,
    /// Conditions that could not be checked, or that change the meaning of a key.
    pub notes: Vec<String>,
    /// `true` if this user may not read the password file, so that its contents were not checked.
    pub passwords_unread: bool,
    /// `true` if `wavecast.socket` is enabled, so that `[http] listen` does not apply.
    pub socket_unit: bool,
}

/// Checks `config` against this machine. Opens no card and no port.
pub fn check(config: &Config, paths: &SystemPaths) -> Report {
    let viewer = Viewer::find(paths);
    let mut report = Report {
        socket_unit: paths.etc.join(ENABLED_SOCKET).symlink_metadata().is_ok(),
        ..Report::default()
    };
    if report.socket_unit {
        let note = "http.listen: wavecast.socket is enabled, so the service listens where that unit says";
        report.notes.push(note.to_owned());
    } else {
        report.errors.extend(privileged_ports(&config.http.listen, &viewer, paths));
    }
    check_passwords(config, &viewer, paths, &mut report);
    report.warnings.extend(exposed_passwords(config, paths));
    report.warnings.extend(public_networks(config, paths));
    for push in &config.pushes {
        check_push(push, &viewer, paths, &mut report);
    }
    report.warnings.extend(push_warnings(config, paths));
    let memory = Memory::for_histories(paths, held_by_other_wavecasts(paths));
    report.errors.extend(histories_problem(config, memory));
    report.errors.extend(shared_cards(&config.inputs, paths));
    report
}

/// Returns a text if this machine is in a public network, as on a campus or at a small provider: `local` does not allow the
/// other machines of that network to listen, though they are next to this one.
pub(super) fn public_networks(config: &Config, paths: &SystemPaths) -> Option<String> {
    let allow = &config.access.allow;
    if is_for_this_machine_alone(config) || !allow.contains(&Network::Local) || allow.contains(&Network::Any)
    {
        return None;
    }
    let is_allowed = |network: &Ipv4Net| {
        let covers =
            |rule: &Network| matches!(rule, Network::Net(rule) if rule.contains(&IpNet::V4(*network)));
        access::is_private(network.network().into()) || allow.iter().any(covers)
    };
    // The service's sandbox has no more of /proc than this.
    let routes = fs::read_to_string(paths.proc.join("self/net/route")).unwrap_or_default();
    let networks: Vec<Ipv4Net> = own_networks(&routes).filter(|network| !is_allowed(network)).collect();
    let list = |quote: &str| {
        let list: Vec<String> = networks.iter().map(|network| format!("{quote}{network}{quote}")).collect();
        list.join(", ")
    };
    let others = if *allow == [Network::Local] { "\"local\"" } else { "..." };
    (!networks.is_empty()).then(|| {
        format!(
            "access.allow: this machine is in the public network {}, whose other machines may not listen; to allow them, \
             write  allow = [{others}, {}]  below [access]",
            list(""),
            list("\"")
        )
    })
}

/// Returns the networks of this machine's interfaces from the text of `/proc/net/route`, which has addresses as numbers of
/// this machine's byte order.
fn own_networks(routes: &str) -> impl Iterator<Item = Ipv4Net> {
    routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = |at: usize| {
            let number = u32::from_str_radix(fields.get(at)?, 16).ok()?;
            Some(Ipv4Addr::from(number.to_ne_bytes()))
        };
        let (destination, gateway, mask) = (address(1)?, address(2)?, address(7)?);
        let network = Ipv4Net::with_netmask(destination, mask).ok()?;
        // A network has no gateway, and more than one machine. The default route is none.
        (gateway.is_unspecified() && (1..31).contains(&network.prefix_len())).then_some(network)
    })
}

/// Returns one text for each input whose card another input has, in the words of another name: `hw:1` where `hw:A` is card
/// number 1. Names that differ in form only are found by the parser already. Card numbers can change with every boot.
pub(super) fn shared_cards(inputs: &[Input], paths: &SystemPaths) -> Vec<String> {
    let cards: Vec<(&Input, Option<Hardware>)> = inputs
        .iter()
        .map(|input| {
            let hardware = input.device.hardware();
            (input, hardware.map(|it| it.with_card(&card_id(&it.card, paths).unwrap_or_default())))
        })
        .filter(|(_, hardware)| hardware.as_ref().is_none_or(|hardware| !hardware.card.is_empty()))
        .collect();
    let mut problems = Vec::new();
    for (at, (input, hardware)) in cards.iter().enumerate() {
        let Some(hardware) = hardware else { continue };
        let same = |(owner, other): &&(&Input, Option<Hardware>)| {
            !input.shares_device(owner) && other.as_ref().is_some_and(|other| hardware.excludes(other))
        };
        if let Some((other, _)) = cards[..at].iter().find(same) {
            problems.push(format!(
                "input.{}.device: \"{}\" is the same card as \"{}\", the device of input.{}: both are card \"{}\" now",
                input.name, input.device, other.device, other.name, hardware.card
            ));
        }
    }
    problems
}

/// Returns the ALSA id of the card that has this number or id. `None` for a card that is not there.
fn card_id(card: &str, paths: &SystemPaths) -> Option<String> {
    if card.parse::<u32>().is_err() {
        return Some(card.to_owned());
    }
    // The unit hides /proc/asound (ProcSubset=pid); sysfs has the id too.
    let files = [
        paths.proc.join(format!("asound/card{card}/id")),
        paths.sys.join(format!("class/sound/card{card}/id")),
    ];
    let id = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Returns an error text if the histories of all inputs together do not fit into `memory`.
fn histories_problem(config: &Config, memory: Memory) -> Option<String> {
    let longest = memory.longest_history(config)?;
    // The key to change is that of the largest history.
    let bytes = |input: &Input| ring_bytes(input, input.history, config.listeners.max_lag);
    let input = config.inputs.iter().max_by_key(|input| bytes(input))?;
    let all: u64 = config.inputs.iter().map(bytes).fold(0, u64::saturating_add);
    let subject = if config.inputs.len() == 1 { "it takes" } else { "all histories together take" };
    Some(format!(
        "input.{}.history_seconds: {subject} {}, but {} leaves {} for it; at most {} seconds fit",
        input.name,
        shown_bytes(all),
        memory.limit,
        shown_bytes(memory.bytes),
        longest.as_secs()
    ))
}

/// Returns one text for each port that the viewer may not listen on.
fn privileged_ports(listen: &[ListenAddr], viewer: &Viewer, paths: &SystemPaths) -> Vec<String> {
    let file = paths.proc.join("sys/net/ipv4/ip_unprivileged_port_start");
    let first_free = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    let is_forbidden = |address: &&ListenAddr| (1..first_free).contains(&address.port());
    match viewer.may_bind_any_port {
        true => Vec::new(),
        false => listen
            .iter()
            .filter(is_forbidden)
            .map(|address| {
                format!("http.listen: {} may not listen on {address}: {PORT_ADVICE}", viewer.name())
            })
            .collect(),
    }
}

/// Checks that the service may read the password file.
fn check_passwords(config: &Config, viewer: &Viewer, paths: &SystemPaths, report: &mut Report) {
    let Some(file) = &config.access.passwords else { return };
    report.passwords_unread = check_readable("access.passwords", file, viewer, paths, report);
}

/// Checks the parts of a push that depend on this machine: its password file, the encoder's library, TLS.
fn check_push(push: &Push, viewer: &Viewer, paths: &SystemPaths, report: &mut Report) {
    let key = |key: &str| format!("push.{}.{key}", push.name);
    let mut check_file = |name: &str, file: &Path| {
        // A folder that this user may not pass makes a note.
        let is_missing = file.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        match is_missing {
            true => report.errors.push(format!("{}: {} does not exist", key(name), file.display())),
            false => drop(check_readable(&key(name), file, viewer, paths, report)),
        }
    };
    if let Some(file) = &push.tls_ca {
        check_file("tls_ca", file);
    }
    match &push.password {
        Password::File(file) => check_file("password_file", file),
        Password::Credential(_) => report.notes.push(format!(
            "{}: only the service sees its credentials, so that this one was not checked",
            key("password_credential")
        )),
        Password::None | Password::Inline(_) => {}
    }
    let missing = push::codec(push.format).load().err();
    report.errors.extend(missing.map(|missing| format!("{}: {missing}", key("format"))));
    if push.to.protocol == Protocol::IcecastTls && !cfg!(feature = "tls") {
        report.errors.push(format!("{}: {NO_TLS}", key("to")));
    }
}

/// Returns one text for each condition of a push that its owner should know of: each begins with its key.
pub(super) fn push_warnings(config: &Config, paths: &SystemPaths) -> Vec<String> {
    let mut warnings = Vec::new();
    for push in &config.pushes {
        let key = |key: &str| format!("push.{}.{key}", push.name);
        warnings.extend(push.ending_problem().map(|problem| format!("{}: {problem}", key("to"))));
        match &push.password {
            Password::Inline(_) => warnings.push(format!(
                "{}: everybody who may read this file knows the password: write it into a file of its own, and name that in \
                 `password_file`",
                key("password")
            )),
            Password::File(file) => warnings.extend(exposed_file(&key("password_file"), file, paths)),
            Password::None => warnings.push(format!("{}: no password is set; most servers want one", key("password_file"))),
            Password::Credential(_) => {}
        }
    }
    warnings
}

/// Checks that the service may read a file. Returns `true` if this user may not.
fn check_readable(key: &str, file: &Path, viewer: &Viewer, paths: &SystemPaths, report: &mut Report) -> bool {
    let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let own_user_may_not = File::open(file).is_err_and(denied);
    let shown = file.display();
    let service_may_not = match (&viewer.service, own_user_may_not) {
        // Root asks for the service's user, and so does a user who may see the permissions but not the contents.
        (Some(service), _) if !viewer.is_service => may_read(service, file) == Some(false),
        (Some(_), denied) => denied,
        (None, _) => false,
    };
    if service_may_not {
        report.errors.push(format!(
            "{key}: user {SERVICE_USER}, as which the service runs, may not read {shown}: \
             sudo chown root:{SERVICE_USER} {shown} && sudo chmod 640 {shown}"
        ));
    } else if own_user_may_not {
        report.notes.push(format!(
            "{key}: user {} may not read {shown}, so its contents were not checked",
            user_name(geteuid().as_raw(), paths).unwrap_or_else(|| geteuid().as_raw().to_string())
        ));
    }
    own_user_may_not
}

/// Returns a warning if users of this machine who should not can read or write the password file: a hash can be guessed at
/// home, without the limits that a guesser has here.
pub(super) fn exposed_passwords(config: &Config, paths: &SystemPaths) -> Option<String> {
    exposed_file("access.passwords", config.access.passwords.as_ref()?, paths)
}

/// Returns a warning if users of this machine who should not can read or write a file of passwords.
fn exposed_file(key: &str, file: &Path, paths: &SystemPaths) -> Option<String> {
    let metadata = fs::metadata(file).ok()?;
    let group = service_group(paths).unwrap_or_else(|| getegid().as_raw());
    // The group root has no other members.
    let is_own_group = [0, group].contains(&metadata.gid());
    let (who, bits) = match metadata.mode() {
        mode if mode & 0o007 != 0 => ("every user of this machine", 0o007),
        mode if mode & 0o070 != 0 && !is_own_group => ("a group that is not the service's", 0o070),
        _ => return None,
    };
    let verb = if metadata.mode() & bits & 0o444 != 0 { "read" } else { "change" };
    let shown = file.display();
    let advice = match service_group(paths) {
        Some(_) => format!("sudo chown root:{SERVICE_USER} {shown} && sudo chmod 640 {shown}"),
        None => format!("chmod 600 {shown}"),
    };
    Some(format!("{key}: {who} may {verb} {shown} (mode {:04o}): {advice}", metadata.mode() & 0o7777))
}

/// Returns the ID of the group that the service's user has, where the package is installed.
pub fn service_group(paths: &SystemPaths) -> Option<u32> {
    let group = fs::read_to_string(paths.etc.join("group")).ok()?;
    let fields = entries(&group).find(|fields| fields[0] == SERVICE_USER)?;
    fields.get(2)?.parse().ok()
}

/// The user who runs the check, and the user of the service.
struct Viewer {
    /// The service's user. `None` where the package is not installed.
    service: Option<User>,
    /// `true` if the service's user runs the check.
    is_service: bool,
    may_bind_any_port: bool,
}

/// A user with all groups.
#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    groups: Vec<u32>,
}

impl Viewer {
    fn find(paths: &SystemPaths) -> Viewer {
        let service = User::named(SERVICE_USER, paths);
        let own = geteuid().as_raw();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
        // Root's own capabilities say nothing about the service, which drops them all.
        let asks_for_service = own == 0 && service.is_some();
        Viewer {
            is_service: service.as_ref().is_some_and(|service| service.uid == own),
            may_bind_any_port: capabilities & NET_BIND_SERVICE != 0 && !asks_for_service,
            service,
        }
    }

    fn name(&self) -> &'static str {
        if self.service.is_some() { "the service" } else { "this user" }
    }
}

impl User {
    /// Returns the user of that name with the groups of the group database and the unit's.
    fn named(name: &str, paths: &SystemPaths) -> Option<User> {
        let passwd = fs::read_to_string(paths.etc.join("passwd")).ok()?;
        let fields = entries(&passwd).find(|fields| fields[0] == name)?;
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let group = fs::read_to_string(paths.etc.join("group")).unwrap_or_default();
        let is_member = |fields: &Vec<&str>| {
            fields[0] == SERVICE_GROUP
                || fields.get(3).is_some_and(|users| users.split(',').any(|u| u == name))
        };
        let more = entries(&group).filter(is_member).filter_map(|fields| fields.get(2)?.parse().ok());
        Some(User { uid, groups: std::iter::once(gid).chain(more).collect() })
    }
}

/// Returns the name of a user. `None` for a number that the database does not have.
fn user_name(uid: u32, paths: &SystemPaths) -> Option<String> {
    let passwd = fs::read_to_string(paths.etc.join("passwd")).ok()?;
    let uid = uid.to_string();
    entries(&passwd).find(|fields| fields.get(2) == Some(&uid.as_str())).map(|fields| fields[0].to_owned())
}

/// The lines of passwd(5) or group(5) as fields, at least one each.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

/// Returns `true` if the permissions let `user` read `file` and pass every folder above it. `None` where that cannot be seen,
/// as with an access control list.
fn may_read(user: &User, file: &Path) -> Option<bool> {
    let file = file.canonicalize().ok()?;
    let folders = file.ancestors().skip(1).map(|folder| (folder.to_owned(), 0o1));
    for (path, bit) in std::iter::once((file.clone(), 0o4)).chain(folders) {
        if has_access_list(&path) {
            return None;
        }
        let metadata = fs::metadata(&path).ok()?;
        let shift = match () {
            () if metadata.uid() == user.uid => 6,
            () if user.groups.contains(&metadata.gid()) => 3,
            () => 0,
        };
        if metadata.mode() >> shift & bit == 0 {
            return Some(false);
        }
    }
    Some(true)
}

fn has_access_list(path: &PathBuf) -> bool {
    let mut none: [u8; 0] = [];
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut none).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::daemon::testing::Tree;

    fn config(text: &str) -> Config {
        Config::parse(text, "w.toml").expect("a configuration")
    }

    fn inputs(devices: &[&str]) -> Vec<Input> {
        let input = |(at, device): (usize, &&str)| Input {
            name: format!("input{at}"),
            device: device.parse().expect("a device"),
            ..Input::default()
        };
        devices.iter().enumerate().map(input).collect()
    }

    #[test]
    fn two_inputs_on_one_card_are_found_by_its_number_and_id() {
        let tree = Tree::new();
        tree.write("proc/asound/card1/id", "A\n");
        tree.write("sys/class/sound/card2/id", "B\n");
        let shared = |devices: &[&str]| shared_cards(&inputs(devices), &tree.paths());
        assert_eq!(
            shared(&["hw:1,0", "plughw:CARD=A,DEV=0"]),
            ["input.input1.device: \"plughw:CARD=A,DEV=0\" is the same card as \"hw:1,0\", the device of \
              input.input0: both are card \"A\" now"]
        );
        for devices in
            [&["hw:A", "hw:1"][..], &["hw:2", "hw:CARD=B"], &["synth:tone", "hw:2,0", "dsnoop:B", "plughw:B"]]
        {
            assert_eq!(shared(devices).len(), 1, "{devices:?}");
        }
        for devices in [
            &["hw:1", "hw:2"][..],
            &["hw:1,0", "hw:A,1"],
            // Cards that are not there now.
            &["hw:7", "hw:C"],
            &["hw:7", "hw:8"],
            &["auto", "synth:tone", "dsnoop:A", "dsnoop:1"],
        ] {
            assert_eq!(shared(devices), [""; 0], "{devices:?}");
        }
    }

    #[test]
    fn histories_larger_than_the_memory_are_an_error_with_the_length_that_fits() {
        let memory = Memory { bytes: 100_000_000, limit: "the memory that is available" };
        let problem = |text: &str| histories_problem(&config(text), memory);
        assert_eq!(problem("[input.live]\nhistory_seconds = 500"), None);
        assert_eq!(
            problem("[input.live]\nhistory_seconds = 3600").as_deref(),
            Some(
                "input.live.history_seconds: it takes 635 MB, but the memory that is available leaves 100 MB for it; \
                 at most 566 seconds fit"
            )
        );
        let both = "[input.a]\nhistory_seconds = 400\n[input.b]\ndevice = 'hw:1'\nhistory_seconds = 300";
        let text = problem(both).expect("the sum is too large");
        assert!(text.starts_with("input.a.history_seconds: all histories together take 124 MB"), "{text}");
        assert!(text.ends_with("at most 282 seconds fit"), "{text}");
    }

    #[test]
    fn a_port_below_1024_is_an_error_without_the_socket_unit() {
        let tree = Tree::new();
        let viewer = Viewer { service: None, is_service: false, may_bind_any_port: false };
        let listen: Vec<ListenAddr> =
            ["80", "127.0.0.1:1023", "1024", "0"].map(|text| text.parse().expect("an address")).into();
        let problems = privileged_ports(&listen, &viewer, &tree.paths());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(
            problems[0].starts_with("http.listen: this user may not listen on [::]:80: ports below 1024")
        );
        assert!(problems[0].contains("systemctl enable --now wavecast.socket"));
        tree.write("proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n");
        assert_eq!(privileged_ports(&listen, &viewer, &tree.paths()), [""; 0]);
        let capable = Viewer { may_bind_any_port: true, ..viewer };
        assert_eq!(privileged_ports(&listen, &capable, &Tree::new().paths()), [""; 0]);
    }

    #[test]
    fn the_socket_unit_takes_the_place_of_the_addresses() {
        let tree = Tree::new();
        let config = config("[http]\nlisten = 80");
        tree.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nwavecast:x:64000:64000::/:/usr/sbin/nologin\n");
        let report = check(&config, &tree.paths());
        assert_eq!(report.errors.len(), 1, "{report:?}");
        assert!(report.errors[0].starts_with("http.listen: the service may not listen on [::]:80"));
        tree.write(&format!("etc/{ENABLED_SOCKET}"), "");
        let report = check(&config, &tree.paths());
        assert!(report.errors.is_empty() && report.socket_unit, "{report:?}");
        assert_eq!(report.notes.len(), 1);
    }

    #[test]
    fn the_services_user_has_the_groups_of_the_database_and_of_the_unit() {
        let tree = Tree::new();
        assert_eq!(User::named("wavecast", &tree.paths()), None);
        tree.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nwavecast:x:990:991::/:/usr/sbin/nologin\n");
        tree.write("etc/group", "root:x:0:\naudio:x:29:anna\nsecrets:x:7:anna,wavecast\nother:x:8:anna\n");
        assert_eq!(User::named("wavecast", &tree.paths()), Some(User { uid: 990, groups: vec![991, 29, 7] }));
        assert_eq!(user_name(990, &tree.paths()).as_deref(), Some("wavecast"));
        assert_eq!(user_name(991, &tree.paths()), None);
    }

    #[test]
    fn permissions_are_those_of_the_user_the_group_or_the_others() {
        let tree = Tree::new();
        let file = tree.write("secret/passwords", "anna:x\n");
        let folder = file.parent().expect("a folder").to_owned();
        let set =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        let owner = fs::metadata(&file).expect("the file exists");
        let user = |uid: u32, gid: u32| User { uid, groups: vec![gid] };
        let (own, stranger) = (user(owner.uid(), 1_000_001), user(1_000_000, 1_000_001));
        let member = user(1_000_000, owner.gid());
        set(&folder, 0o755);
        for (mode, expected) in
            [(0o640, [true, true, false]), (0o604, [true, false, true]), (0o040, [false, true, false])]
        {
            set(&file, mode);
            let may = [&own, &member, &stranger].map(|user| may_read(user, &file) == Some(true));
            assert_eq!(may, expected, "{mode:o}");
        }
        set(&file, 0o644);
        set(&folder, 0o750);
        assert_eq!(may_read(&stranger, &file), Some(false), "the folder is closed");
        set(&folder, 0o755);
        assert_eq!(may_read(&stranger, &tree.path().join("missing")), None);
    }

    #[test]
    fn a_password_file_that_others_can_read_is_a_warning_with_the_command_that_helps() {
        let tree = Tree::new();
        let file = tree.write("passwords", "anna:x\n");
        let config = config(&format!("[access]\npasswords = \"{}\"", file.display()));
        let warning = |mode| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
            let warning = exposed_passwords(&config, &tree.paths());
            assert_eq!(
                check(&config, &tree.paths()).warnings,
                warning.clone().into_iter().collect::<Vec<_>>()
            );
            warning.unwrap_or_default()
        };
        for mode in [0o600, 0o400, 0o640] {
            assert_eq!(warning(mode), "", "{mode:o}: the group is that of the process");
        }
        let shown = file.display();
        assert_eq!(
            warning(0o644),
            format!(
                "access.passwords: every user of this machine may read {shown} (mode 0644): chmod 600 {shown}"
            )
        );
        assert!(warning(0o602).contains("every user of this machine may change"));
        // With the package, the group has to be the service's.
        tree.write("etc/group", "root:x:0:\naudio:x:29:\nwavecast:x:1000001:\n");
        assert!(
            warning(0o604).ends_with(&format!(
                "(mode 0604): sudo chown root:wavecast {shown} && sudo chmod 640 {shown}"
            ))
        );
        if std::os::unix::fs::chown(&file, None, Some(29)).is_ok() {
            assert!(warning(0o640).contains("a group that is not the service's may read"));
            assert_eq!(warning(0o600), "");
            std::os::unix::fs::chown(&file, None, Some(1_000_001)).expect("changed");
            assert_eq!(warning(0o640), "");
        }
    }

    #[test]
    fn a_push_is_checked_for_its_password_and_its_ending() {
        let tree = Tree::new();
        let file = tree.write("radio", "hackme\n");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
        let report = |lines: &str| {
            let text = format!("[push.radio]\nto = 'icecast://a:8000/b.mp3'\n{lines}");
            check(&config(&text), &tree.paths())
        };
        let open = report(&format!("password_file = '{}'", file.display()));
        assert_eq!(open.warnings.len(), 2, "{open:?}");
        assert!(open.warnings[0].starts_with("push.radio.to: the stream is FLAC in Ogg"), "{open:?}");
        assert!(
            open.warnings[1].starts_with("push.radio.password_file: every user of this machine may read")
        );
        let inline = report("password = 'hackme'\nformat = 'mp3'");
        assert!(inline.warnings[0].starts_with("push.radio.password: everybody who may read this file"));
        assert!(!format!("{inline:?}").contains("hackme"));
        let missing = report("password_file = '/nonexistent/radio'");
        assert_eq!(missing.errors, ["push.radio.password_file: /nonexistent/radio does not exist"]);
        let text = "[push.radio]\nto = 'icecasts://a:8000/b.ogg'\ntls_ca = '/nonexistent/ca.pem'";
        let missing = check(&config(text), &tree.paths()).errors;
        // Without the feature `tls`, that is a mistake too.
        assert_eq!(missing[0], "push.radio.tls_ca: /nonexistent/ca.pem does not exist");
        let credential = report("password_credential = 'radio'");
        assert!(credential.notes[0].starts_with("push.radio.password_credential: only the service"));
    }

    #[test]
    fn a_public_network_is_a_warning_unless_its_machines_are_allowed() {
        let tree = Tree::new();
        let header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let hex = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let route = |destination, gateway, mask| {
            format!("eth0 {} {} 0003 0 0 0 {} 0 0 0\n", hex(destination), hex(gateway), hex(mask))
        };
        let nets = [
            route([0, 0, 0, 0], [198, 51, 100, 1], [0, 0, 0, 0]),
            route([198, 51, 100, 0], [0, 0, 0, 0], [255, 255, 255, 128]),
            route([192, 168, 1, 0], [0, 0, 0, 0], [255, 255, 255, 0]),
            route([203, 0, 113, 7], [0, 0, 0, 0], [255, 255, 255, 255]),
        ];
        tree.write("proc/self/net/route", &format!("{header}{}", nets.concat()));
        let warning = |text: &str| {
            let config = Config::parse(text, "w.toml").expect("a configuration");
            public_networks(&config, &tree.paths())
        };
        let text = warning("").expect("a warning");
        assert_eq!(
            text,
            "access.allow: this machine is in the public network 198.51.100.0/25, whose other machines may not listen; to \
             allow them, write  allow = [\"local\", \"198.51.100.0/25\"]  below [access]"
        );
        let text = warning("access.allow = ['local', '10.0.0.0/8']").expect("a warning");
        assert!(text.contains("allow = [..., \"198.51.100.0/25\"]"), "{text}");
        for fine in [
            "access.allow = 'any'",
            "access.allow = ['local', '198.51.100.0/24']",
            "access.allow = '192.168.1.7'",
            "http.listen = '127.0.0.1:4410'",
        ] {
            assert_eq!(warning(fine), None, "{fine}");
        }
        assert_eq!(own_networks("broken\nbroken\n").count(), 0);
    }

    #[test]
    fn a_password_file_that_the_service_may_not_read_is_an_error_with_the_command_that_helps() {
        let tree = Tree::new();
        tree.write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nwavecast:x:1000000:1000001::/:/usr/sbin/nologin\n",
        );
        let file = tree.write("passwords", "anna:x\n");
        let config = config(&format!("[access]\npasswords = \"{}\"", file.display()));
        let errors = |mode| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
            check(&config, &tree.paths()).errors
        };
        assert_eq!(errors(0o644), [""; 0]);
        let closed = errors(0o600);
        assert_eq!(closed.len(), 1, "{closed:?}");
        assert!(
            closed[0].starts_with("access.passwords: user wavecast, as which the service runs, may not read")
        );
        assert!(closed[0].contains("sudo chmod 640"), "{closed:?}");
    }
}
