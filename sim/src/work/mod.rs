//! What do the users of the service do? Writers and readers of the log, and ZooKeeper clients.

pub mod jute;
pub mod log_reader;
pub mod log_writer;
pub mod operator;
pub mod switcher;
pub mod zk_client;
pub mod zk_looker;
mod zk_more;
mod zk_rival;
mod zk_script;
mod zk_told;
