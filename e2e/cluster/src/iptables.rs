//! Removing chains of packet rules, all at once.

use std::fmt::Write as _;

use crate::command::Run;
use crate::error::Error;
use crate::layout::Layout;

/// Removes every chain whose name starts with one of the prefixes, and the jumps to them.
pub(crate) fn remove_chains(layout: &Layout, prefixes: &[&str]) -> Result<(), Error> {
    for family in ["iptables", "ip6tables"] {
        // A kernel without IPv6 has nothing to remove there.
        let Ok(saved) = Run::new(layout, format!("{family}-save")).output() else { continue };
        if let Some(script) = removal(&saved, prefixes) {
            Run::new(layout, format!("{family}-restore"))
                .args(["--wait", "5", "--noflush"])
                .input(script)
                .output()?;
        }
    }
    Ok(())
}

/// The chains that are left of those with a prefix.
pub(crate) fn remaining_chains(layout: &Layout, prefixes: &[&str]) -> Vec<String> {
    let saved = Run::new(layout, "iptables-save").output().unwrap_or_default();
    chains(&saved).filter(|chain| is_ours(chain, prefixes)).map(str::to_owned).collect()
}

/// Declaring a chain in a script empties it; only empty chains that nothing jumps to can be
/// deleted.
fn removal(saved: &str, prefixes: &[&str]) -> Option<String> {
    let mut script = String::new();
    for table in saved.split_inclusive("COMMIT\n") {
        let ours: Vec<&str> = chains(table).filter(|chain| is_ours(chain, prefixes)).collect();
        let name = table.lines().find(|line| line.starts_with('*'));
        let (Some(name), false) = (name, ours.is_empty()) else { continue };
        let _ = writeln!(script, "{name}");
        for chain in &ours {
            let _ = writeln!(script, ":{chain} - [0:0]");
        }
        for rule in table.lines().filter_map(|line| line.strip_prefix("-A ")) {
            let parent = rule.split(' ').next().unwrap_or_default();
            if !is_ours(parent, prefixes)
                && target(rule).is_some_and(|chain| is_ours(chain, prefixes))
            {
                let _ = writeln!(script, "-D {rule}");
            }
        }
        for chain in &ours {
            let _ = writeln!(script, "-X {chain}");
        }
        script.push_str("COMMIT\n");
    }
    (!script.is_empty()).then_some(script)
}

fn chains(saved: &str) -> impl Iterator<Item = &str> {
    saved
        .lines()
        .filter_map(|line| line.strip_prefix(':'))
        .filter_map(|line| line.split(' ').next())
}

fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ').skip_while(|word| !matches!(*word, "-j" | "-g"));
    words.nth(1)
}

fn is_ours(chain: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| chain.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_chains_and_the_jumps_to_them_go() {
        let saved = "# Generated\n*filter\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:KUBE-FORWARD - [0:0]\n\
                     -A FORWARD -j DOCKER\n\
                     -A FORWARD -m comment --comment \"kubernetes rules\" -j KUBE-FORWARD\n\
                     -A KUBE-FORWARD -j ACCEPT\nCOMMIT\n\
                     *nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n";
        let expected = "*filter\n:KUBE-FORWARD - [0:0]\n\
                        -D FORWARD -m comment --comment \"kubernetes rules\" -j KUBE-FORWARD\n\
                        -X KUBE-FORWARD\nCOMMIT\n";
        assert_eq!(removal(saved, &["KUBE-"]).unwrap(), expected);
        assert!(removal(saved, &["LAMPLIGHTER-"]).is_none());
    }
}
