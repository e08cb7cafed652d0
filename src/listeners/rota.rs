//! The turns of the listeners of one fan-out thread.
//!
//! Every listener gets its turn at one block in `every`. Up to 64 listeners get it at the same block, because a
//! wake-up of the thread costs as much as some sends. More listeners are divided into groups, whose turns are spread
//! over the blocks: otherwise the last one of a thousand listeners would get a block too late.
//!
//! With `every` = 10 and 3 groups:
//!
//! | group | listeners      | their turns        |
//! |-------|----------------|--------------------|
//! | 0     | id = 0 (mod 3) | block 0, 10, 20, … |
//! | 1     | id = 1 (mod 3) | block 3, 13, 23, … |
//! | 2     | id = 2 (mod 3) | block 6, 16, 26, … |

use std::ops::Range;

/// The most listeners that get their turn at the same block while there is another block for the others.
const GROUP: usize = 64;

/// The turns for one interval and one number of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rota {
    /// Each listener has its turn at one block in this many. At least 1.
    every: u64,
    /// The number of groups, from 1 to `every`: no two groups have their turn at the same block.
    groups: u64,
}

impl Rota {
    /// Returns the turns of so many listeners, each at one block in `every`.
    pub(super) fn new(every: u64, listeners: usize) -> Rota {
        let every = every.max(1);
        Rota { every, groups: (listeners.div_ceil(GROUP) as u64).clamp(1, every) }
    }

    /// Returns the group of the listener with that id.
    pub(super) fn group_of(self, id: u64) -> u64 {
        // Called for every listener in every round. The low 32 bits divide listeners as well, and a small board divides
        // 64 bits in software.
        u64::from(id as u32 % self.groups as u32)
    }

    /// Returns the first block from `from` on at which the group has its turn.
    pub(super) fn due(self, group: u64, from: u64) -> u64 {
        let first = group * self.every / self.groups;
        from + (first + self.every - from % self.every) % self.every
    }

    /// Returns the first block from `from` on at which any group has its turn.
    pub(super) fn next_due(self, from: u64) -> u64 {
        (0..self.groups).map(|group| self.due(group, from)).min().unwrap_or(from)
    }

    /// Returns the groups that had their turn at one of these blocks, each group once.
    ///
    /// The groups come in the order of their turns: after a stall, the group that has waited longest is sent first.
    pub(super) fn due_in(self, blocks: Range<u64>) -> impl Iterator<Item = u64> {
        let end = blocks.end.min(blocks.start + self.every);
        (blocks.start..end).filter_map(move |block| {
            let group = (block % self.every * self.groups).div_ceil(self.every);
            (self.due(group, block) == block).then_some(group)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_in(rota: Rota, blocks: Range<u64>) -> Vec<u64> {
        rota.due_in(blocks).collect()
    }

    #[test]
    fn listeners_are_divided_into_groups_that_a_wake_up_can_serve() {
        for (every, listeners, groups) in [
            (1, 0, 1),
            (1, 1000, 1),
            (4, 0, 1),
            (4, 64, 1),
            (4, 65, 2),
            (10, 130, 3),
            (10, 640, 10),
            (10, 1000, 10),
            // An interval below one block.
            (0, 65, 1),
        ] {
            assert_eq!(Rota::new(every, listeners).groups, groups, "{listeners} at one block in {every}");
        }
    }

    #[test]
    fn the_table_of_the_documentation_holds() {
        let rota = Rota::new(10, 130);
        assert_eq!([0, 1, 2].map(|group| rota.due(group, 0)), [0, 3, 6]);
        assert_eq!([0, 1, 2].map(|group| rota.due(group, 5)), [10, 13, 6]);
        assert_eq!([3, 4, 5].map(|id| rota.group_of(id)), [0, 1, 2]);
    }

    #[test]
    fn the_next_turn_is_that_of_the_group_that_comes_first() {
        let rota = Rota::new(10, 130);
        for (from, next) in [(0, 0), (1, 3), (3, 3), (4, 6), (7, 10), (24, 26), (26, 26)] {
            assert_eq!(rota.next_due(from), next, "from block {from}");
        }
        assert_eq!(Rota::new(1, 5).next_due(17), 17);
    }

    #[test]
    fn after_a_stall_the_group_that_has_waited_longest_is_sent_first() {
        let rota = Rota::new(10, 130);
        assert_eq!(due_in(rota, 13..23), [1, 2, 0]);
        assert_eq!(due_in(rota, 15..25), [2, 0, 1]);
        // A longer stall changes nothing: no group is sent to twice.
        assert_eq!(due_in(rota, 13..1000), [1, 2, 0]);
        assert!(due_in(rota, 14..16).is_empty());
        assert!(due_in(rota, 17..17).is_empty());
    }

    #[test]
    fn every_group_has_exactly_one_turn_in_every_interval() {
        for every in 1..12 {
            for listeners in [0, 1, 64, 65, 200, 300, 5000] {
                let rota = Rota::new(every, listeners);
                for start in 0..2 * every {
                    let mut groups = due_in(rota, start..start + every);
                    groups.sort_unstable();
                    assert_eq!(groups, (0..rota.groups).collect::<Vec<_>>(), "{rota:?} from {start}");
                    let block_by_block: usize =
                        (start..start + every).map(|block| due_in(rota, block..block + 1).len()).sum();
                    assert_eq!(block_by_block as u64, rota.groups);
                }
            }
        }
    }
}
