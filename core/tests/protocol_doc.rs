//! Does docs/PROTOCOL.md list every message, and no other?

use zoolog_core::wire::TABLE;

#[test]
fn the_document_lists_every_message_under_its_number() {
    let doc = include_str!("../../docs/PROTOCOL.md");
    let listed: Vec<(u16, &str)> = doc
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_start_matches('|').split('|').map(str::trim);
            let kind = cells.next()?.parse().ok()?;
            let name = cells.next()?;
            name.starts_with(|c: char| c.is_ascii_uppercase()).then_some((kind, name))
        })
        .collect();
    assert_eq!(listed, TABLE);
}
