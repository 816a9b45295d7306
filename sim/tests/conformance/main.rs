//! What does every log promise, whatever is below it? One suite, which each implementation of [`SharedLog`] runs: the embedded log on
//! a memory disk, and the client of the sharded log over the real orderers and slots in the simulator; and one that becomes another
//! on the way. Another implementation needs a [`Harness`], and a line at the end.
//!
//! - `suite`: what the promises use. `writing`, `reading`, `sealing`: the promises.
//! - `embedded`, `sharded`, `switched`, `exchanged`: the kinds of logs; `held`: how one in the world is used from outside it.
//!
//! [`SharedLog`]: zoolog_client::SharedLog
//! [`Harness`]: suite::Harness

#[path = "../../../client/tests/local/bench.rs"]
mod disk;
mod embedded;
mod exchanged;
mod held;
mod reading;
mod sealing;
mod sharded;
mod suite;
mod switched;
mod writing;

use reading::*;
use sealing::*;
use writing::*;

/// The suite, for one kind of log.
macro_rules! conforms {
    ($module:ident, $harness:ty, $($promise:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $promise() {
                    super::$promise::<$harness>();
                }
            )*
        }
    };
    ($module:ident: $harness:ty) => {
        conforms!($module, $harness,
            appends_have_dense_positions_in_order
            reads_are_exact_and_say_where_they_end
            a_subscription_goes_from_the_past_to_the_present
            a_tail_lies_behind_all_that_was_acknowledged
            a_trim_leaves_a_typed_gap
            what_its_owner_needs_is_not_trimmed
            appends_survive_disturbances_exactly_once
            what_was_acknowledged_outlives_its_writer
            refusals_leave_no_trace
            a_seal_is_the_end_of_a_log
        );
    };
}

conforms!(an_embedded_log: super::embedded::Embedded);
conforms!(a_sharded_log: super::sharded::Sharded);
// A range that reaches over the seam takes two reads; what is trimmed of one log says nothing of the other.
conforms!(a_switched_log, super::switched::Switched,
    appends_have_dense_positions_in_order
    a_subscription_goes_from_the_past_to_the_present
    a_tail_lies_behind_all_that_was_acknowledged
    appends_survive_disturbances_exactly_once
    what_was_acknowledged_outlives_its_writer
    refusals_leave_no_trace
    a_seal_is_the_end_of_a_log
);
conforms!(an_exchanged_log, super::exchanged::Exchanged,
    appends_have_dense_positions_in_order
    a_subscription_goes_from_the_past_to_the_present
    a_tail_lies_behind_all_that_was_acknowledged
    appends_survive_disturbances_exactly_once
    what_was_acknowledged_outlives_its_writer
    refusals_leave_no_trace
    a_seal_is_the_end_of_a_log
);
