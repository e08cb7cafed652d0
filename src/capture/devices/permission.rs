//! Inputs that this process may not open, and the command that changes that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::system_paths::{SystemPaths, entries};

/// Returns what to do about an input in `/dev/snd` that this process may not open; `None` if there is no such input.
///
/// ALSA does not see such a card, so it is in no list. The test is access(2), which opens nothing and thereby takes the
/// card from no program. It cannot see that a unit's `DevicePolicy` forbids the card.
pub fn permission_problem(paths: &SystemPaths) -> Option<String> {
    forbidden_node(paths, |node| {
        let access = rustix::fs::access(node, Access::READ_OK | Access::WRITE_OK);
        matches!(access, Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM))
    })
}

fn forbidden_node(paths: &SystemPaths, is_forbidden: impl Fn(&Path) -> bool) -> Option<String> {
    let is_input = |node: &PathBuf| {
        let name = node.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("pcmC") && name.ends_with('c'))
    };
    let inputs = entries(&paths.dev.join("snd")).into_iter().filter(is_input);
    let node = inputs.into_iter().find(|node| is_forbidden(node))?;
    Some(advice(&node, paths))
}

fn advice(node: &Path, paths: &SystemPaths) -> String {
    let user = user_name(paths);
    let may_not = match &user {
        Ok(name) => format!("user \"{name}\" may not open {}", node.display()),
        Err(uid) => format!("user {uid} may not open {}", node.display()),
    };
    let group = fs::metadata(node).ok().filter(|node| node.mode() & 0o060 == 0o060);
    let group = group.and_then(|node| group_of(node.gid(), paths)).filter(|group| group.name != "root");
    match (group, user) {
        (Some(group), Ok(user)) if group.members.contains(&user) => {
            format!(
                "{may_not}: {user} is in group {}, but only from the next login on: log in again",
                group.name
            )
        }
        (Some(group), user) => {
            let user = user.unwrap_or_else(|uid| format!("\"$(id -nu {uid})\""));
            format!("{may_not}: run  sudo usermod -aG {} {user}  and log in again", group.name)
        }
        (None, _) => format!("{may_not}, and no group may: see  ls -l {}", node.display()),
    }
}

/// Returns the name of the user that this process runs as, or the number if the user has no name.
fn user_name(paths: &SystemPaths) -> Result<String, u32> {
    let uid = rustix::process::geteuid().as_raw();
    // The environment comes second: after su it may be the environment of another user.
    let named = entry_of(uid, &paths.etc.join("passwd")).map(|mut fields| fields.swap_remove(0));
    let from_environment = || ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.or_else(from_environment).filter(|name| !name.is_empty()).ok_or(uid)
}

struct Group {
    name: String,
    members: Vec<String>,
}

fn group_of(gid: u32, paths: &SystemPaths) -> Option<Group> {
    let mut fields = entry_of(gid, &paths.etc.join("group"))?;
    let members = fields.get(3).map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
    Some(Group { name: fields.swap_remove(0), members })
}

/// Returns the fields of the line in passwd(5) or group(5) whose third field is `id`.
fn entry_of(id: u32, file: &Path) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).ok()?;
    let mut entries = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    entries.find(|fields| fields.get(2).is_some_and(|field| field.parse() == Ok(id)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    /// Returns the advice about an input that belongs to a group with this name and these members.
    fn advice_for_group((name, members): (&str, &str), mode: u32) -> String {
        use std::os::unix::fs::PermissionsExt;
        let tree = Tree::new();
        let node = tree.write("dev/snd/pcmC1D0c", "");
        tree.write("dev/snd/pcmC1D0p", "");
        fs::set_permissions(&node, fs::Permissions::from_mode(mode)).expect("mode");
        let gid = fs::metadata(&node).expect("node").gid();
        tree.write("etc/group", &format!("{name}:x:{gid}:{members}\n"));
        let uid = rustix::process::geteuid().as_raw();
        tree.write("etc/passwd", &format!("pi:x:{uid}:1000:Pi,,,:/home/pi:/bin/bash\n"));
        let advice = forbidden_node(&tree.paths(), |_| true).expect("forbidden");
        advice.replace(&format!("{}/", tree.path().display()), "/")
    }

    #[test]
    fn a_user_outside_of_the_group_gets_the_command_that_helps() {
        assert_eq!(
            advice_for_group(("audio", "gdm"), 0o660),
            "user \"pi\" may not open /dev/snd/pcmC1D0c: run  sudo usermod -aG audio pi  and log in again"
        );
    }

    #[test]
    fn a_user_who_joined_the_group_since_the_login_has_to_log_in_again() {
        assert_eq!(
            advice_for_group(("audio", "gdm,pi"), 0o660),
            "user \"pi\" may not open /dev/snd/pcmC1D0c: pi is in group audio, but only from the next login on: \
             log in again"
        );
    }

    #[test]
    fn the_advice_about_a_card_of_root_alone_names_no_group() {
        for advice in [advice_for_group(("root", ""), 0o660), advice_for_group(("audio", ""), 0o600)] {
            assert_eq!(
                advice,
                "user \"pi\" may not open /dev/snd/pcmC1D0c, and no group may: see  ls -l /dev/snd/pcmC1D0c"
            );
        }
    }

    #[test]
    fn no_cards_or_open_ones_are_no_permission_problem() {
        let tree = Tree::new();
        assert_eq!(permission_problem(&tree.paths()), None);
        tree.write("dev/snd/pcmC0D0c", "");
        assert_eq!(permission_problem(&tree.paths()), None);
    }
}
