//! What do the scenarios share? Letting a world run, and the end that all of them want.

use std::time::Duration;
use zoolog_sim::run::settle;
use zoolog_sim::world::World;

/// Runs on for that long; nothing may go wrong meanwhile.
pub fn run_for(world: &mut World, time: Duration) {
    let until = world.now() + time;
    world.run_until(until);
    assert_eq!(world.violation, None, "seed {}", world.options.seed);
}

/// Heals, and everything must be well.
pub fn ends_well(world: &mut World) {
    settle(world);
    if let Some(v) = &world.violation {
        panic!("seed {}: {v}", world.options.seed);
    }
}
