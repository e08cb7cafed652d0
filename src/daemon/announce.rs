//! The announcement on the local network (DNS-SD, RFC 6763): programs that browse for services list this station.
//!
//! The service announces itself while it runs and with the port that it has: as `_http._tcp` for browsers, and as
//! `_vlc-http._tcp` with the path of the stream, which VLC lists under *Local Network*. A daemon that only this machine can
//! reach announces nothing. Avahi also tells the name under which other machines find this one.
//!
//! Avahi is asked over the system bus. It withdraws the announcement when the connection closes, however the daemon ends. The
//! alternatives were worse: Avahi reads files only in /etc/avahi/services, in a chroot, so that a file has to be written by
//! root, stays behind a power cut, and has a fixed port; `avahi-publish` is in a package that is rarely installed, and that an
//! upgrade by `apt-get upgrade` would not install.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::info;

use crate::sys::host;
use crate::sys::system_bus::{Body, Bus, Method, SYSTEM_BUS};

/// The time between two attempts after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(15);
/// The longest name of a service, in bytes (RFC 6763, section 4.1.1).
const MAX_NAME_BYTES: usize = 63;
/// The service types, and the path of each.
const TYPES: [(&str, &str); 2] = [("_http._tcp", "path=/"), ("_vlc-http._tcp", "path=/live.wav")];

const AVAHI: &str = "org.freedesktop.Avahi";
const SERVER: &str = "org.freedesktop.Avahi.Server";
const GROUP: &str = "org.freedesktop.Avahi.EntryGroup";
/// `AVAHI_ENTRY_GROUP_COLLISION`: another machine has the name.
const COLLISION: i32 = 3;
/// `AVAHI_ENTRY_GROUP_FAILURE`
const FAILURE: i32 = 4;

/// The contents of the announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announcement {
    name: String,
    port: u16,
}

/// The announcement. It is withdrawn on drop.
#[derive(Default)]
pub(super) struct Announcer {
    current: Option<Announcement>,
    registered: Option<Registered>,
    /// The number behind the name, as other machines have had the name so often.
    collisions: u32,
    /// The time before which Avahi is not asked again.
    retry_at: Option<Instant>,
    /// `true` once a failure was logged.
    logged: bool,
}

/// A group of services that Avahi announces as long as the connection is open.
struct Registered {
    bus: Bus,
    /// The object path of the group.
    group: String,
}

impl Announcer {
    /// Announces the station at `port`, or withdraws the announcement. To be called every few seconds: it finds out that Avahi
    /// was started again, or that another machine has the name.
    pub(super) fn update(&mut self, title: Option<&str>, port: Option<u16>) {
        let wanted = port.map(|port| Announcement { name: service_name(title), port });
        if wanted != self.current {
            self.registered = None;
            (self.collisions, self.retry_at) = (0, None);
            self.current = wanted;
        }
        if let Some(registered) = &mut self.registered {
            match registered.state() {
                Ok(COLLISION) => self.collisions += 1,
                Ok(FAILURE) | Err(_) => {}
                Ok(_) => return host::set_local_name(registered.host_name()),
            }
            self.registered = None;
        }
        host::set_local_name(None);
        let Some(announcement) = &self.current else { return };
        if self.retry_at.is_some_and(|retry| Instant::now() < retry) {
            return;
        }
        let name = numbered(&announcement.name, self.collisions);
        match Registered::new(&bus_path(), &name, announcement.port) {
            Ok(mut registered) => {
                host::set_local_name(registered.host_name());
                self.registered = Some(registered);
                self.logged = false;
            }
            Err(error) => {
                // A service of this machine has the name.
                self.collisions += u32::from(error.to_string().contains("collision"));
                self.retry_at = Some(Instant::now() + RETRY_INTERVAL);
                // Many machines have no Avahi, and wavecast is heard as well without it.
                if !std::mem::replace(&mut self.logged, true) {
                    info!("not announced on the local network, Avahi does not answer: {error}");
                }
            }
        }
    }
}

impl Registered {
    fn new(bus: &Path, name: &str, port: u16) -> io::Result<Registered> {
        let mut bus = Bus::connect(bus)?;
        let new_group = Method { service: AVAHI, object: "/", interface: SERVER, name: "EntryGroupNew" };
        let answer = bus.call(&new_group, Body::default())?;
        let group = answer.string().ok_or(io::ErrorKind::InvalidData)?.to_owned();
        for (kind, path) in TYPES {
            // Every interface, IPv4 and IPv6; no flags; the machine's own domain and name.
            let body = Body::default().int32(-1).int32(-1).uint32(0).string(name).string(kind);
            let body = body.string("").string("").uint16(port).texts(&[path]);
            bus.call(&group_method(&group, "AddService"), body)?;
        }
        bus.call(&group_method(&group, "Commit"), Body::default())?;
        Ok(Registered { bus, group })
    }

    /// Returns the name of this machine by which others find it: `NAME.local`, or `NAME-2.local` if another one has that
    /// name.
    fn host_name(&mut self) -> Option<String> {
        let method = Method { service: AVAHI, object: "/", interface: SERVER, name: "GetHostNameFqdn" };
        let answer = self.bus.call(&method, Body::default()).ok()?;
        answer.string().filter(|name| name.ends_with(".local")).map(str::to_owned)
    }

    /// Returns the state of the group, `AvahiEntryGroupState`. An error if Avahi does not know it any more.
    fn state(&mut self) -> io::Result<i32> {
        let answer = self.bus.call(&group_method(&self.group, "GetState"), Body::default())?;
        answer.int32().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn group_method<'a>(group: &'a str, name: &'a str) -> Method<'a> {
    Method { service: AVAHI, object: group, interface: GROUP, name }
}

/// Returns the socket of the system bus. Tests have another one.
fn bus_path() -> PathBuf {
    let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_default();
    address.strip_prefix("unix:path=").unwrap_or(SYSTEM_BUS).into()
}

/// Returns the name of the service: the station's title, or else one that says what and where it is.
fn service_name(title: Option<&str>) -> String {
    title.map_or_else(
        || format!("wavecast on {}", host::names().into_iter().next().unwrap_or_default()),
        str::to_owned,
    )
}

/// Returns the name with the number that tells it from equal ones, as Avahi numbers them: `Bird box`, `Bird box #2`.
fn numbered(name: &str, collisions: u32) -> String {
    let number = if collisions == 0 { String::new() } else { format!(" #{}", collisions + 1) };
    let mut end = name.len().min(MAX_NAME_BYTES - number.len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{number}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_title_cut_to_what_dns_allows() {
        assert_eq!(numbered(&service_name(Some("Bird box")), 0), "Bird box");
        assert_eq!(numbered("Bird box", 1), "Bird box #2");
        let long = numbered(&"ß–".repeat(30), 9);
        assert!((60..=63).contains(&long.len()) && long.ends_with(" #10"), "{long}");
        assert!(service_name(None).starts_with("wavecast on "));
    }
}
