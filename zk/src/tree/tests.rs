//! Stat rules, built-in nodes, sequence numbers, order of errors. Random histories are tested with the state.

use super::node::Node;
use super::*;
use crate::jute::ErrorCode;
use crate::jute::codes::perms;
use crate::txn::{Acl, Stat};
use proptest::prelude::*;

fn at(zxid: i64) -> Writer<'static> {
    Writer::root(Stamp { zxid, wall_ms: zxid * 1000 })
}

impl Tree {
    fn get(&self, path: &str) -> Result<(Option<&[u8]>, Stat), ErrorCode> {
        self.look(path).map(|n| (n.data(), n.stat()))
    }
    fn stat(&self, path: &str) -> Result<Stat, ErrorCode> {
        self.look(path).map(|n| n.stat())
    }
    fn children(&self, path: &str) -> Result<(ChildNames<'_>, Stat), ErrorCode> {
        self.look(path).map(|n| (n.children(), n.stat()))
    }
    fn acl(&self, path: &str) -> Result<(&[Acl], Stat), ErrorCode> {
        self.look(path).map(|n| (n.acl(), n.stat()))
    }
}

fn plain(path: &str) -> NewNode<'_> {
    NewNode { path, sequential: false, data: Some(b"d"), acl: None, owner: 0 }
}

fn sequential(path: &str) -> NewNode<'_> {
    NewNode { sequential: true, ..plain(path) }
}

fn ephemeral(path: &str) -> NewNode<'_> {
    NewNode { owner: 77, ..plain(path) }
}

fn names(tree: &Tree, path: &str) -> Vec<String> {
    tree.children(path).expect("it is there").0.map(str::to_owned).collect()
}

#[test]
fn a_new_tree_has_the_built_in_nodes_with_their_odd_stats() {
    let tree = Tree::new();
    assert_eq!(names(&tree, "/"), ["zookeeper"]);
    assert_eq!(names(&tree, "/zookeeper"), ["config", "quota"]);
    assert_eq!((tree.len(), tree.bytes()), (4, 44));
    let stat = |cversion, num_children| Stat { cversion, num_children, ..Stat::default() };
    assert_eq!(tree.get("/"), Ok((Some(&b""[..]), stat(-1, 1))));
    assert_eq!(tree.stat(""), tree.stat("/"));
    assert_eq!(tree.stat("/zookeeper"), Ok(stat(-2, 2)));
    assert_eq!(tree.stat("/zookeeper/quota"), Ok(stat(0, 0)));
    let config = Stat { version: -1, aversion: -1, ..Stat::default() };
    assert_eq!(tree.get("/zookeeper/config"), Ok((Some(&b""[..]), config)));
    assert_eq!(tree.acl("/zookeeper/config").map(|a| a.0), Ok(&world(perms::READ)[..]));
    assert_eq!(tree.acl("/zookeeper").map(|a| a.0), Ok(&world(perms::ALL)[..]));
    assert_eq!(tree.hash(), tree.hash_from_scratch());
}

#[test]
fn stats_follow_the_rules_for_node_and_parent() {
    let mut tree = Tree::new();
    let created = tree.create(plain("/p"), at(5)).expect("free");
    let new =
        Stat { czxid: 5, mzxid: 5, pzxid: 5, ctime: 5000, mtime: 5000, data_length: 1, ..Stat::default() };
    assert_eq!((&*created.path, created.stat), ("/p", new));
    assert_eq!(tree.stat("/").map(|s| (s.pzxid, s.cversion, s.num_children, s.mzxid)), Ok((5, 0, 2, 0)));

    tree.create(ephemeral("/p/e"), at(6)).expect("free");
    assert_eq!(tree.stat("/p/e").map(|s| s.ephemeral_owner), Ok(77));
    let parent = Stat { pzxid: 6, cversion: 1, num_children: 1, ..new };
    assert_eq!(tree.stat("/p"), Ok(parent));

    let set = tree.set_data("/p", None, 0, at(7));
    let parent = Stat { mzxid: 7, mtime: 7000, version: 1, data_length: 0, ..parent };
    assert_eq!((set.map(|s| s.stat), tree.get("/p")), (Ok(parent), Ok((None, parent))));
    assert_eq!(tree.stat("/").map(|s| s.pzxid), Ok(5), "setting data is not the parent's business");

    tree.delete("/p/e", -1, at(8)).expect("there");
    assert_eq!(tree.stat("/p"), Ok(Stat { pzxid: 8, cversion: 2, num_children: 0, ..parent }));
    assert_eq!(tree.hash(), tree.hash_from_scratch());
}

#[test]
fn null_and_empty_data_differ_and_have_no_length() {
    let mut tree = Tree::new();
    for (path, data) in [("/null", None), ("/empty", Some(&b""[..]))] {
        let stat = tree.create(NewNode { data, ..plain(path) }, at(1)).expect("free").stat;
        assert_eq!(tree.get(path), Ok((data, stat)));
        assert_eq!(stat.data_length, 0);
    }
    let before = tree.hash();
    tree.set_data("/null", Some(b""), -1, at(2)).expect("there");
    assert_ne!(before, tree.hash());
    assert_eq!(tree.hash(), tree.hash_from_scratch());
}

#[test]
fn sequence_numbers_count_every_child_ever_made() {
    let mut tree = Tree::new();
    let mut made = |new, zxid| tree.create(new, at(zxid)).map(|c| c.path);
    assert_eq!(made(plain("/q"), 1).as_deref(), Ok("/q"));
    assert_eq!(made(sequential("/q/n-"), 2).as_deref(), Ok("/q/n-0000000000"));
    assert_eq!(made(plain("/q/x"), 3).as_deref(), Ok("/q/x"));
    assert_eq!(made(plain("/q/x"), 4), Err(ErrorCode::NodeExists));
    assert_eq!(made(sequential("/q/"), 5).as_deref(), Ok("/q/0000000002"), "a failed create takes no number");
    assert_eq!(made(plain("/q/n-0000000004"), 6).as_deref(), Ok("/q/n-0000000004"));
    assert_eq!(made(sequential("/q/n-"), 7), Err(ErrorCode::NodeExists), "made by hand");
    tree.delete("/q/n-0000000004", -1, at(8)).expect("there");
    let made = tree.create(sequential("/q/n-"), at(9)).map(|c| c.path);
    assert_eq!(made.as_deref(), Ok("/q/n-0000000004"), "deleting changes no number");
}

#[test]
fn sequence_numbers_go_on_past_an_int_and_end_with_their_digits() {
    let mut tree = Tree::new();
    tree.create(plain("/q"), at(1)).expect("free");
    tree.force("/q", |n| n.created = 2_147_483_648);
    let made = tree.create(sequential("/q/n-"), at(2)).map(|c| c.path);
    assert_eq!(made.as_deref(), Ok("/q/n-2147483648"));
    tree.force("/q", |n| n.created = 9_999_999_999);
    let made = tree.create(sequential("/q/n-"), at(3)).map(|c| c.path);
    assert_eq!(made.as_deref(), Ok("/q/n-9999999999"));
    let before = tree.hash();
    assert_eq!(tree.create(sequential("/q/n-"), at(4)), Err(ErrorCode::NodeExists));
    assert_eq!((tree.hash(), tree.hash_from_scratch()), (before, before));
    assert!(tree.create(plain("/q/plain"), at(5)).is_ok());
}

#[test]
fn versions_go_past_the_highest_and_skip_the_one_that_means_any() {
    let mut tree = Tree::new();
    tree.create(plain("/v"), at(1)).expect("free");
    for (from, to) in [(i32::MAX, i32::MIN), (-3, -2), (-2, 0)] {
        tree.force("/v", |n| n.version = from);
        assert_eq!(tree.set_data("/v", None, from, at(2)).map(|s| s.stat.version), Ok(to));
    }
    assert_eq!(tree.set_data("/v", None, -2, at(3)), Err(ErrorCode::BadVersion));
    assert_eq!(tree.set_data("/zookeeper/config", None, -1, at(3)).map(|s| s.stat.version), Ok(0));
}

#[test]
fn creates_fail_with_the_first_error_that_applies() {
    use ErrorCode::{BadArguments, NoChildrenForEphemerals, NoNode, NodeExists};
    let mut tree = Tree::new();
    tree.create(ephemeral("/e"), at(1)).expect("free");
    tree.create(plain("/a"), at(2)).expect("free");
    let before = (tree.hash(), tree.len(), tree.bytes());
    for (new, error) in [
        (plain(""), BadArguments),
        (plain("a"), BadArguments),
        (plain("/a\0"), BadArguments),
        (plain("/missing\0/x"), BadArguments),
        (plain("a/b"), NoNode),
        (plain("/missing/b"), NoNode),
        (plain("/missing/."), NoNode),
        (plain("/a//b"), NoNode),
        (plain("/a/"), BadArguments),
        (plain("//"), BadArguments),
        (plain("/."), BadArguments),
        (plain("/a/.."), BadArguments),
        (plain("/a/\u{1}"), BadArguments),
        (sequential("/a/\u{1}"), BadArguments),
        (plain("/"), NodeExists),
        (plain("/a"), NodeExists),
        (plain("/e/."), BadArguments),
        (plain("/e/x"), NoChildrenForEphemerals),
        (ephemeral("/e/x"), NoChildrenForEphemerals),
        (sequential("/e/"), NoChildrenForEphemerals),
    ] {
        assert_eq!(tree.create(new, at(3)), Err(error), "{new:?}");
    }
    assert_eq!((tree.hash(), tree.len(), tree.bytes()), before);
}

#[test]
fn deletes_and_sets_fail_with_the_first_error_that_applies() {
    use ErrorCode::{BadArguments, BadVersion, NoNode, NotEmpty};
    let mut tree = Tree::new();
    tree.create(plain("/a"), at(1)).expect("free");
    tree.create(plain("/a/b"), at(2)).expect("free");
    let before = (tree.hash(), tree.len(), tree.bytes());
    for (path, version, error) in [
        ("", -1, BadArguments),
        ("a", -1, BadArguments),
        ("/", -1, BadArguments),
        ("/zookeeper", 9, BadArguments),
        ("/zookeeper/quota", -1, BadArguments),
        ("/zookeeper/config", -1, BadArguments),
        ("/x\0", -1, BadArguments),
        ("/x", -1, NoNode),
        ("/a/", -1, NoNode),
        ("//a", -1, NoNode),
        ("/x/y", -1, NoNode),
        ("/a", 1, BadVersion),
        ("/a", -2, BadVersion),
        ("/a", 0, NotEmpty),
        ("/a", -1, NotEmpty),
    ] {
        assert_eq!(tree.delete(path, version, at(3)), Err(error), "{path:?}");
    }
    for (path, version, error) in [
        ("", -1, BadArguments),
        ("a", -1, BadArguments),
        ("/a/", -1, BadArguments),
        ("/x/.", -1, BadArguments),
        ("/x", 5, NoNode),
        ("/a", 5, BadVersion),
    ] {
        assert_eq!(tree.set_data(path, Some(b"new"), version, at(3)), Err(error), "{path:?}");
    }
    assert_eq!((tree.hash(), tree.len(), tree.bytes()), before);
    assert!(tree.delete("/a/b", 0, at(4)).is_ok() && tree.delete("/a", 0, at(5)).is_ok());
}

#[test]
fn malformed_paths_have_no_nodes_and_the_empty_one_is_the_root() {
    let mut tree = Tree::new();
    tree.create(plain("/a"), at(1)).expect("free");
    for path in ["a", "/a/", "//a", "//", "/a//", " /a", "/A"] {
        assert_eq!(tree.stat(path), Err(ErrorCode::NoNode), "{path:?}");
    }
    assert_eq!(names(&tree, ""), ["a", "zookeeper"]);
}

/// Every field that clients can see, or that later records depend on, is in the hash.
#[test]
fn every_field_shows_in_the_hash() {
    let changes: [fn(&mut Node); 10] = [
        |n| n.created += 1,
        |n| n.owner += 1,
        |n| n.czxid += 1,
        |n| n.mzxid += 1,
        |n| n.pzxid += 1,
        |n| n.ctime += 1,
        |n| n.mtime += 1,
        |n| n.version += 1,
        |n| n.aversion += 1,
        |n| n.data_hash += 1,
    ];
    let mut hashes = std::collections::BTreeSet::new();
    let build = || {
        let mut tree = Tree::new();
        tree.create(plain("/a"), at(1)).expect("free");
        tree
    };
    hashes.insert(build().hash());
    for change in changes {
        let mut tree = build();
        tree.force("/a", change);
        assert!(hashes.insert(tree.hash()));
    }
    let mut tree = Tree::new();
    let acl = world(perms::READ);
    tree.create(NewNode { acl: Some(&acl), ..plain("/a") }, at(1)).expect("free");
    assert!(hashes.insert(tree.hash()), "the ACL");
    let mut tree = Tree::new();
    tree.create(plain("/b"), at(1)).expect("free");
    assert!(hashes.insert(tree.hash()), "the name");
}

#[test]
fn what_is_deleted_gives_its_room_back() {
    let mut tree = Tree::new();
    let before = (tree.len(), tree.bytes(), tree.acl_count());
    let acl = world(perms::WRITE);
    for round in 0..3 {
        for i in 0..3000 {
            let path = format!("/n{i}");
            let new = NewNode { acl: Some(&acl), ..plain(&path) };
            tree.create(new, at(round * 10_000 + i + 1)).expect("free");
        }
        for i in 0..3000 {
            tree.delete(&format!("/n{i}"), -1, at(round * 10_000 + 5000 + i)).expect("there");
        }
        assert_eq!((tree.len(), tree.bytes(), tree.acl_count()), before);
        assert!(tree.nodes.slots().count() == 4);
    }
    assert_eq!(tree.hash(), tree.hash_from_scratch());
}

proptest! {
    /// The hash is of what is there, not of the slots it came to be in.
    #[test]
    fn the_hash_does_not_depend_on_where_nodes_are(
        order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let build = |order: &[usize], junk: usize| {
            let mut tree = Tree::new();
            tree.force("/", |n| n.created = 0);
            for i in 0..junk {
                tree.create(plain(&format!("/junk{i}")), at(1)).unwrap();
            }
            for i in 0..junk {
                tree.delete(&format!("/junk{i}"), -1, at(1)).unwrap();
            }
            for &i in order {
                tree.create(plain(&format!("/n{i}")), at(i as i64)).unwrap();
            }
            tree.force("/", |n| (n.created, n.pzxid) = (40, 40));
            tree
        };
        let sorted: Vec<usize> = (0..40).collect();
        let (a, b) = (build(&order, 7), build(&sorted, 0));
        prop_assert_eq!(a.hash(), b.hash());
        prop_assert_eq!(names(&a, "/"), names(&b, "/"));
    }

    /// Paths that lead through the same names in other places are told apart.
    #[test]
    fn paths_lead_to_their_own_nodes(paths in prop::collection::btree_set("(/[ab]{1,2}){1,4}", 1..20)) {
        let mut tree = Tree::new();
        let mut made = std::collections::BTreeMap::new();
        for (zxid, path) in paths.iter().enumerate() {
            if let Ok(c) = tree.create(plain(path), at(zxid as i64 + 1)) {
                made.insert(path.clone(), c);
            }
        }
        for path in &paths {
            match made.get(path) {
                Some(c) => {
                    prop_assert_eq!(tree.stat(path).map(|s| s.czxid), Ok(c.stat.czxid));
                    prop_assert_eq!(tree.path_of(c.slot), path.clone());
                }
                None => prop_assert_eq!(tree.stat(path), Err(ErrorCode::NoNode)),
            }
        }
    }
}
