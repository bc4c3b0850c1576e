//! Which instructions to fuse: groups over one iteration space that can run as one without anything
//! between them having to run in the middle.

use super::iteration::{self, Sizes};
use super::member::Member;
use crate::passes::dependencies::Dependencies;

/// A fused kernel's operands stay within what the first-level cache and the prefetcher can follow.
const MAX_ACCESSES: usize = 24;
const MAX_MEMBERS: usize = 48;
/// Instructions further apart are not fused for sharing an input alone: their memory would live longer.
const NEAR: usize = 24;

/// A set of instructions' numbers.
#[derive(Clone)]
struct Set(Vec<u64>);

impl Set {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn contains(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 != 0
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, theirs)| *mine |= theirs);
    }

    fn contains_any(&self, of: &[usize]) -> bool {
        of.iter().any(|&at| self.contains(at))
    }
}

pub struct Group {
    /// In program order.
    pub members: Vec<usize>,
    /// What all members iterate over; None for an instruction that is not pointwise.
    pub sizes: Option<Sizes>,
    /// Every instruction that must run before.
    before: Set,
}

pub struct Groups<'a> {
    members: &'a [Option<Member>],
    dependencies: &'a Dependencies,
    /// The group of each instruction seen so far.
    of: Vec<usize>,
    /// None where it was merged into another.
    pub all: Vec<Option<Group>>,
}

impl<'a> Groups<'a> {
    pub fn new(members: &'a [Option<Member>], dependencies: &'a Dependencies) -> Self {
        let mut groups = Self { members, dependencies, of: Vec::new(), all: Vec::new() };
        for at in 0..members.len() {
            groups.add(at);
        }
        groups
    }

    fn add(&mut self, at: usize) {
        let count = self.members.len();
        let mut before = Set::new(count);
        for &dependency in &self.dependencies.of[at] {
            before.insert(dependency);
            if let Some(group) = &self.all[self.of[dependency]] {
                before.add(&group.before);
                group.members.iter().for_each(|&member| before.insert(member));
            }
        }
        let sizes = self.members[at].as_ref().map(|member| member.sizes.clone());
        let is_pointwise = sizes.is_some();
        self.all.push(Some(Group { members: vec![at], sizes, before }));
        self.of.push(self.all.len() - 1);
        if !is_pointwise {
            return;
        }
        // What it reads of others first, then what reads the same.
        let mut candidates: Vec<usize> = self.dependencies.of[at].clone();
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        let shares = |other: usize| {
            let (Some(mine), Some(theirs)) = (&self.members[at], &self.members[other]) else { return false };
            mine.inputs.iter().any(|input| theirs.inputs.iter().any(|shared| shared.buffer == input.buffer))
        };
        candidates.extend((at.saturating_sub(NEAR)..at).rev().filter(|&other| shares(other)));
        for candidate in candidates {
            let (mine, other) = (self.of[at], self.of[candidate]);
            if mine != other {
                self.merge(other, mine);
            }
        }
    }

    /// Merges `b` into `a`, where that is possible.
    fn merge(&mut self, a: usize, b: usize) {
        let (Some(first), Some(second)) = (&self.all[a], &self.all[b]) else { return };
        let (Some(first_sizes), Some(second_sizes)) = (&first.sizes, &second.sizes) else { return };
        if first.members.len() + second.members.len() > MAX_MEMBERS
            || self.accesses(first) + self.accesses(second) > MAX_ACCESSES
            || first_sizes.iter().product::<i64>() != second_sizes.iter().product::<i64>()
        {
            return;
        }
        let Some(sizes) = iteration::refine(first_sizes, second_sizes) else { return };
        if self.is_between(a, b) || self.is_between(b, a) || !self.agree(first, second, &sizes) {
            return;
        }
        let (Some(second), Some(mut merged)) = (self.all[b].take(), self.all[a].take()) else { return };
        for &member in &second.members {
            self.of[member] = a;
        }
        merged.members.extend(second.members);
        merged.members.sort_unstable();
        merged.sizes = Some(sizes);
        merged.before.add(&second.before);
        let mut with_members = merged.before.clone();
        merged.members.iter().for_each(|&member| with_members.insert(member));
        for group in self.all.iter_mut().flatten() {
            if group.before.contains_any(&merged.members) {
                group.before.add(&with_members);
            }
        }
        self.all[a] = Some(merged);
    }

    fn accesses(&self, group: &Group) -> usize {
        group.members.iter().filter_map(|&at| self.members[at].as_ref()).map(|member| member.inputs.len()).sum()
    }

    /// Whether something outside of both depends on `a`, and `b` on it.
    fn is_between(&self, a: usize, b: usize) -> bool {
        let (Some(first), Some(second)) = (&self.all[a], &self.all[b]) else { return false };
        second.members.iter().flat_map(|&member| &self.dependencies.of[member]).any(|&dependency| {
            let group = self.of[dependency];
            group != a
                && group != b
                && self.all[group].as_ref().is_some_and(|group| group.before.contains_any(&first.members))
        })
    }

    /// Whether members that reach the same bytes, one of them writing, do so element by element.
    fn agree(&self, a: &Group, b: &Group, sizes: &Sizes) -> bool {
        let accesses = |group: &Group| {
            group
                .members
                .iter()
                .filter_map(|&at| self.members[at].as_ref())
                .flat_map(|member| {
                    std::iter::once((&member.output, true, &member.sizes))
                        .chain(member.inputs.iter().map(|input| (input, false, &member.sizes)))
                })
                .collect::<Vec<_>>()
        };
        let theirs = accesses(b);
        accesses(a).iter().all(|(mine, mine_writes, mine_sizes)| {
            theirs.iter().all(|(other, other_writes, other_sizes)| {
                if mine.buffer != other.buffer || !(*mine_writes || *other_writes) {
                    return true;
                }
                let (mine_range, other_range) = (mine.range(mine_sizes), other.range(other_sizes));
                let apart = mine_range.end <= other_range.start || other_range.end <= mine_range.start;
                apart || mine.over(mine_sizes, sizes) == other.over(other_sizes, sizes)
            })
        })
    }

    /// The groups in an order that they can run in: each as early as its latest member allows.
    pub fn in_order(&self) -> Vec<&Group> {
        let mut waiting: Vec<usize> = vec![0; self.all.len()];
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.all.len()];
        for (id, group) in self.all.iter().enumerate() {
            let Some(group) = group else { continue };
            let mut needed: Vec<usize> = group
                .members
                .iter()
                .flat_map(|&member| &self.dependencies.of[member])
                .map(|&dependency| self.of[dependency])
                .filter(|&other| other != id)
                .collect();
            needed.sort_unstable();
            needed.dedup();
            waiting[id] = needed.len();
            needed.into_iter().for_each(|other| users[other].push(id));
        }
        let key = |id: usize| self.all[id].as_ref().and_then(|group| group.members.last().copied());
        let mut ready: std::collections::BTreeSet<(Option<usize>, usize)> = (0..self.all.len())
            .filter(|&id| self.all[id].is_some() && waiting[id] == 0)
            .map(|id| (key(id), id))
            .collect();
        let mut ordered = Vec::with_capacity(self.all.len());
        while let Some((_, id)) = ready.pop_first() {
            ordered.extend(self.all[id].as_ref());
            for &user in &users[id] {
                waiting[user] -= 1;
                if waiting[user] == 0 {
                    ready.insert((key(user), user));
                }
            }
        }
        ordered
    }
}
