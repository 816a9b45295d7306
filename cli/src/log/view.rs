//! `zoolog log view`: which shards make up the log, how far is each lane, and who serves it?

use crate::args::ViewArgs;
use crate::exit::Failure;
use crate::{out, status};
use serde_json::{Value, json};
use zoolog_core::LaneId;
use zoolog_core::view::{ShardState, ShardView};
use zoolog_core::wire::OrderIs;

/// Carries it out.
///
/// # Errors
/// If no orderer leads.
pub fn run(args: &ViewArgs) -> Result<(), Failure> {
    let order = status::order(&args.place.orderers()?)?;
    if args.json {
        return out::print(format!("{:#}", json(&order)));
    }
    let mut table = out::table(["shard", "state", "lane", "records", "primary", "address"], 3..4);
    for shard in &order.view.shards {
        for (lane, replica) in shard.lanes().zip(&shard.replicas) {
            table.add_row([
                shard.id.to_string(),
                state(shard),
                lane.to_string(),
                len(&order, shard, lane).to_string(),
                format!("slot {}", replica.slot),
                replica.addr.clone(),
            ]);
        }
    }
    out::print(format!("view {}, cut {}, tail {}", order.view.number, order.number, order.tail))?;
    out::print(table)
}

fn state(shard: &ShardView) -> String {
    match &shard.state {
        ShardState::Live => "live".into(),
        ShardState::Finalized(f) => format!("finalized, {}..{}", f.first, f.end),
    }
}

/// Committed records of a lane.
fn len(order: &OrderIs, shard: &ShardView, lane: LaneId) -> u64 {
    match &shard.state {
        ShardState::Finalized(f) => f.lens.get(usize::from(lane.index())).copied().unwrap_or(0),
        ShardState::Live => order.lanes.iter().find(|l| l.lane == lane).map_or(0, |l| l.to),
    }
}

fn json(order: &OrderIs) -> Value {
    let shard = |s: &ShardView| {
        let lanes = s.lanes().zip(&s.replicas).map(|(lane, r)| {
            json!({
                "lane": lane.to_string(), "records": len(order, s, lane), "slot": r.slot.to_string(),
                "addr": r.addr,
            })
        });
        let mut all = json!({ "shard": s.id.0, "lanes": lanes.collect::<Vec<_>>() });
        match &s.state {
            ShardState::Live => all["state"] = json!("live"),
            ShardState::Finalized(f) => {
                (all["state"], all["first"], all["end"]) =
                    (json!("finalized"), json!(f.first.0), json!(f.end.0));
            }
        }
        all
    };
    json!({
        "cluster": format!("{:032x}", order.cluster.0), "view": order.view.number.0, "cut": order.number.0,
        "tail": order.tail.0, "shards": order.view.shards.iter().map(shard).collect::<Vec<_>>(),
    })
}
