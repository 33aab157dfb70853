//! What holds in every state, what is to be reached at all, and that nothing is ever stuck.

use baton::core::recovery::Phase;
use stateright::Property;

use super::{
    mind::Note,
    missed::{
        CLAIMS_END, EPOCH_FIRST, EPOCHS_GROW, FENCED, INTENT_FIRST, LATE_IS_HARMLESS, NOTHING_LOST, ONE_ACKNOWLEDGES,
        RELAY_LOGS_KEPT, RESTORED, ROUTED_IS_OPEN,
    },
    servers::{Broken, SERVERS, Server},
    world::{End, Setup, World},
};

const PROMOTED: &str = "a server is promoted";
const TAKEN_OVER: &str = "a recovery that another process began is ended";
const WOKEN: &str = "a late word of an earlier leader arrives beside the next one, which succeeds";
const GIVEN_UP: &str = "a recovery is given up";

/// Everything that is checked of the worlds of a setup.
pub(super) fn all(setup: &Setup) -> Vec<Property<Setup>> {
    let mut list = vec![
        Property::always(NOTHING_LOST, |_, world: &World| world.loses_nothing()),
        Property::always(ONE_ACKNOWLEDGES, |_, world: &World| world.acknowledging() <= 1),
        Property::always(FENCED, |setup: &Setup, world: &World| world.fenced(setup)),
        Property::always(RESTORED, |setup: &Setup, world: &World| world.restored(setup)),
        Property::sometimes(PROMOTED, |_, world: &World| world.succeeded()),
    ];
    let mut never = |name, holds: fn(&Setup, &World) -> bool| list.push(Property::always(name, holds));
    never(RELAY_LOGS_KEPT, |_, world| world.fleet.broken != Some(Broken::RelayLost));
    never(LATE_IS_HARMLESS, |_, world| world.fleet.broken != Some(Broken::LateUnfence));
    never(CLAIMS_END, |_, world| world.fleet.broken != Some(Broken::Outdone));
    never(EPOCH_FIRST, |_, world| world.fleet.broken != Some(Broken::NoEpoch));
    never(EPOCHS_GROW, |_, world| world.fleet.broken != Some(Broken::EpochAgain));
    never(ROUTED_IS_OPEN, |_, world| world.fleet.broken != Some(Broken::RoutedUnopened));
    never(INTENT_FIRST, |_, world| world.fleet.broken != Some(Broken::NoRecord));
    let limits = &setup.limits;
    if limits.crashes + limits.freezes + limits.stops > 0 {
        list.push(Property::sometimes(TAKEN_OVER, |_, world: &World| {
            let began = |record: &Note| record.executor > 0 && world.ended.is_some();
            world.succeeded() && world.api.newest().as_ref().is_some_and(began)
        }));
    }
    if limits.freezes > 0 {
        list.push(Property::sometimes(WOKEN, |_, world: &World| {
            world.late && world.ended == Some(End::Frozen) && world.succeeded()
        }));
    }
    if setup.cut && limits.returns > 0 {
        list.push(Property::sometimes(GIVEN_UP, |_, world: &World| {
            world.api.newest().is_some_and(|record| record.phase == Phase::Failed)
        }));
    }
    list
}

impl World {
    fn succeeded(&self) -> bool {
        self.api.newest().is_some_and(|record| record.phase == Phase::Succeeded)
    }

    /// The server that the newest record made the primary, and the one that clients are routed to.
    fn loses_nothing(&self) -> bool {
        let made = self.api.newest().filter(|record| record.phase.promoted()).and_then(|record| record.new_primary);
        let routed = self.api.routed.filter(|routed| *routed != 0 && self.fleet.at(*routed).opened);
        made.into_iter().chain(routed).all(|primary| self.fleet.acknowledged & !self.fleet.at(primary).executed == 0)
    }

    pub(super) fn acknowledging(&self) -> usize {
        (0..SERVERS).filter(|server| self.fleet.can_acknowledge(*server)).count()
    }

    /// While somebody is promoted the old primary acknowledges nothing.
    fn fenced(&self, setup: &Setup) -> bool {
        let machine = self.leader.as_ref().and_then(|leader| leader.machine);
        let promoting = machine.map(|machine| setup.mind.note(machine)).filter(|note| note.phase == Phase::Promoting);
        promoting.is_none_or(|note| !self.fleet.can_acknowledge(note.old_primary))
    }

    /// Nothing is under way: no recovery, and nobody's late words.
    fn rests(&self) -> bool {
        self.strays.is_empty() && self.leader.as_ref().is_some_and(|leader| leader.machine.is_none())
    }

    fn restored(&self, setup: &Setup) -> bool {
        let gave_up = |phase| matches!(phase, Phase::Failed | Phase::Refused);
        // The first word of a late one stops threads, and housekeeping starts them again.
        let rests = self.rests() && !self.late;
        let Some(record) = self.api.newest().filter(|record| gave_up(record.phase) && rests) else { return true };
        let stopped = |it: &&Server| it.up && !it.cut && !it.booted && it.source.is_some();
        // Where nothing keeps a replica from answering, nothing excuses it.
        let limits = &setup.limits;
        let excused = limits.losses + limits.deaths + limits.cuts + limits.crashes + limits.freezes + limits.stops > 0
            && setup.mind.message(record.record).contains("may still be stopped");
        excused || self.fleet.servers.iter().filter(stopped).all(|it| it.receiver)
    }

    /// A recovery ended, or there is none to begin.
    pub(super) fn ended(&self) -> bool {
        match self.api.newest() {
            Some(record) => record.phase.finished(),
            None => self.fleet.at(0).up && !self.fleet.at(0).cut,
        }
    }
}
