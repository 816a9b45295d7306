//! Three orderers in virtual time, with honest and dishonest company.

mod bad_files;
mod bad_input;
mod catching_up;
mod consumers;
mod cuts;
mod driver;
mod elections;
mod members;
mod model;
mod offers;
mod rebuild;
mod schedules;
mod seal;
mod stages;
mod strangers;
mod succession;
mod tails;
mod trims;
mod views;
