//! The deterministic simulator: the real machines of orderers, slots, log clients and ZooKeeper nodes under
//! simulated time, network and disks, all from one seed, with checkers that hold what happens against the
//! promises.
//!
//! # Tour
//! - [`run`]: one seed: a storm of faults, healing, the final questions.
//! - [`world`], [`schedule`]: the loop, and what is due in it. [`life`]: starts, crashes, disks at work.
//! - [`network`], [`disk`], [`snapshots`]: what may happen to bytes under way and at rest.
//! - [`node`], [`process`], [`cluster`], [`zk_process`]: what runs where, and how a machine is driven.
//! - [`options`], [`faults`]: what this seed's weather is like, and what it does.
//! - [`work`]: what users do; [`observe`]: what processes report; [`check`]: one promise per file.
//! - [`trace`]: a line per event. The same seed gives the same bytes.

pub mod check;
pub mod cluster;
pub mod disk;
pub mod faults;
pub mod life;
pub mod network;
pub mod node;
pub mod observe;
pub mod options;
pub mod process;
pub mod rot;
pub mod run;
pub mod schedule;
pub mod snapshots;
pub mod trace;
pub mod work;
pub mod world;
pub mod zk_process;
