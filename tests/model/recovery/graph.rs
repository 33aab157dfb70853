//! All worlds of a setup as a graph: that nothing is ever stuck.

use std::collections::HashMap;

use stateright::Model;

use super::world::{Action, Setup, World};

/// All worlds of a setup, and from which of them no recovery can end any more.
#[derive(Default)]
pub(super) struct Graph {
    numbers: HashMap<World, u32>,
    worlds: Vec<World>,
    /// How each was met first.
    first: Vec<Option<(u32, Action)>>,
    /// From where what goes on by itself leads there.
    before: Vec<Vec<u32>>,
    ends: Vec<bool>,
}

impl Graph {
    pub(super) fn of(setup: &Setup) -> Self {
        let mut graph = Self::default();
        for world in setup.begin() {
            graph.number(world, None);
        }
        let mut from = 0;
        while let Some(world) = graph.worlds.get(from as usize).cloned() {
            for (action, next) in setup.next_steps(&world) {
                let to = graph.number(next, Some((from, action)));
                if !action.is_fault() && to != from {
                    graph.before[to as usize].push(from);
                }
            }
            from += 1;
        }
        graph.mark();
        graph
    }

    fn number(&mut self, world: World, first: Option<(u32, Action)>) -> u32 {
        let fresh = u32::try_from(self.worlds.len()).unwrap();
        let number = *self.numbers.entry(world.clone()).or_insert(fresh);
        if number == fresh {
            self.worlds.push(world);
            self.first.push(first);
            self.before.push(Vec::new());
        }
        number
    }

    /// From where an end can be reached without a fault.
    fn mark(&mut self) {
        self.ends = self.worlds.iter().map(World::ended).collect();
        let mut open: Vec<u32> = (0..).zip(&self.ends).filter(|(_, ends)| **ends).map(|(number, _)| number).collect();
        while let Some(to) = open.pop() {
            for from in &self.before[to as usize] {
                if !std::mem::replace(&mut self.ends[*from as usize], true) {
                    open.push(*from);
                }
            }
        }
    }

    pub(super) fn size(&self) -> usize {
        self.worlds.len()
    }

    /// How the first world is reached from which no recovery can end, by what goes on by itself and by servers that
    /// come back. Without a notion of fairness that is the strongest that can be said of an end.
    pub(super) fn stuck(&self) -> Option<(Vec<Action>, &World)> {
        let mut number = self.ends.iter().position(|ends| !ends)?;
        let (world, mut path) = (&self.worlds[number], Vec::new());
        while let Some((from, action)) = self.first[number] {
            path.push(action);
            number = from as usize;
        }
        path.reverse();
        Some((path, world))
    }
}
