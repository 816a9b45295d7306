//! Three orderers in virtual time, with honest and dishonest company.

mod catching_up;
mod cuts;
mod driver;
mod elections;
mod model;
mod schedules;
mod strangers;
mod tails;
