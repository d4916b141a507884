//! Batches that are written short, between whole replicas without a disk or a network: nodes of both versions understand
//! each other, and whatever goes wrong on the way costs one conversation, never a record.

#[allow(dead_code, reason = "other tests use more of it")]
mod shop;

use engine::replica::Input;
use engine::sync::{Carried, Dialect, Familiar, Message, SHORT_BATCHES_LIMIT};

use shop::{HUB, Shop, writer};

/// How a message's batches are written: the body each is written by, or `None` if the message has them in full.
fn likes(message: &Message) -> Option<Vec<u8>> {
    match message {
        Message::Short { batches, .. } => Some(batches.iter().map(|short| short.like).collect()),
        _ => None,
    }
}

#[test]
fn a_live_sale_takes_less_than_half_of_what_it_took_and_is_the_same_everywhere() {
    let (mut short, mut full) = (Shop::new(2), Shop::new(2));
    for till in [1, 2] {
        short.link(till, Dialect::Short);
        full.link(till, Dialect::Full);
    }
    let mut bytes = [0, 0];
    for sale in 0..40 {
        let (new, old) = (short.sell_live(1 + sale % 2), full.sell_live(1 + sale % 2));
        assert_eq!((new.len(), old.len()), (2, 2), "to the hub, and from there to the other till");
        if sale >= 2 {
            let way = |message: &(usize, usize, usize, Message)| likes(&message.3);
            assert_eq!(new.iter().map(way).collect::<Vec<_>>(), [Some(vec![1]), Some(vec![1])]);
            bytes[0] += new.iter().map(|message| message.2).sum::<usize>();
            bytes[1] += old.iter().map(|message| message.2).sum::<usize>();
        }
        assert!(old.iter().all(|message| likes(&message.3).is_none()));
    }
    assert!(bytes[0] * 2 < bytes[1], "{bytes:?}");
    for mut shop in [short, full] {
        shop.assert_level(40);
        assert!(shop.nobody_ended());
    }
}

#[test]
fn old_and_new_nodes_trade_with_each_other() {
    let mut shop = Shop::new(2);
    shop.link(1, Dialect::Full);
    shop.link(2, Dialect::Short);
    for _ in 0..4 {
        for till in [1, 2] {
            for (from, to, _, message) in shop.sell_live(till) {
                assert_eq!(likes(&message).is_some(), from.max(to) == 2, "{from} to {to}");
            }
        }
    }
    shop.assert_level(8);
    assert!(shop.nobody_ended());
}

#[test]
fn a_peer_that_did_not_agree_to_short_batches_is_not_heard_with_them() {
    let mut shop = Shop::new(1);
    shop.give(HUB, Input::PeerUp(writer(1), Dialect::Full));
    shop.give(1, Input::PeerUp(writer(HUB), Dialect::Short));
    shop.carry();
    shop.sell_live(1);
    assert!(matches!(shop.nodes[HUB].ended.as_slice(), [(1, why)] if why.contains("written short")));
    shop.cut(1);
    shop.link(1, Dialect::Short);
    shop.assert_level(1);
}

#[test]
fn after_a_batch_that_was_refused_those_behind_it_are_understood_and_all_of_them_come_again() {
    let mut shop = Shop::new(1);
    shop.link(1, Dialect::Short);
    shop.sell_live(1);
    shop.sell(1);
    let (_, frame) = shop.nodes[1].out.pop_front().unwrap();
    let Ok(Message::Short { number, mut batches }) = Message::decode(&frame) else { panic!("it is short") };
    batches[0].change[7] ^= 1;
    shop.give(HUB, Input::Message(writer(1), Message::Short { number, batches }.encode()));
    assert_eq!(shop.nodes[HUB].refused, ["its Automerge change differs from the one announced"]);
    shop.sell_live(1);
    assert!(shop.nodes[HUB].refused[1].contains("missing here"), "{:?}", shop.nodes[HUB].refused);
    assert_eq!(shop.nodes[1].host.replica().waiting().count, 2, "nobody believes them to be at the hub");
    assert!(shop.nobody_ended());
    shop.cut(1);
    shop.link(1, Dialect::Short);
    shop.sell_live(1);
    shop.assert_level(4);
}

#[test]
fn a_new_link_begins_with_nothing_that_the_old_one_knew() {
    let mut shop = Shop::new(1);
    shop.link(1, Dialect::Short);
    shop.sell_live(1);
    shop.sell_live(1);
    for _ in 0..2 {
        shop.cut(1);
        shop.link(1, Dialect::Short);
        let likes = [0, 1].map(|_| likes(&shop.sell_live(1)[0].3));
        assert_eq!(likes, [Some(vec![0]), Some(vec![1])]);
    }
    shop.assert_level(6);
    assert!(shop.nobody_ended());
}

#[test]
fn a_message_that_is_lost_ends_the_conversation_and_nothing_else() {
    let mut shop = Shop::new(1);
    shop.link(1, Dialect::Short);
    shop.sell_live(1);
    shop.sell(1);
    shop.nodes[1].out.clear();
    shop.sell_live(1);
    assert!(matches!(shop.nodes[HUB].ended.as_slice(), [(1, why)] if why.contains("out of order")));
    shop.cut(1);
    shop.link(1, Dialect::Short);
    shop.assert_level(3);
}

#[test]
fn a_message_written_by_what_was_never_said_ends_the_conversation_and_nothing_else() {
    for (like, steps) in [(9, &[][..]), (1, &[0x70][..]), (0, &[0x0F, 0xFF, 0x7F][..])] {
        let mut shop = Shop::new(1);
        shop.link(1, Dialect::Short);
        shop.sell_live(1);
        shop.sell(1);
        let (_, frame) = shop.nodes[1].out.pop_front().unwrap();
        let Ok(Message::Short { number, mut batches }) = Message::decode(&frame) else {
            panic!("it is short")
        };
        batches[0].like = like;
        batches[0].rest.truncate(64);
        batches[0].rest.extend(steps);
        shop.give(HUB, Input::Message(writer(1), Message::Short { number, batches }.encode()));
        assert!(matches!(shop.nodes[HUB].ended.as_slice(), [(1, _)]), "{:?}", shop.nodes[HUB].ended);
        shop.cut(1);
        shop.link(1, Dialect::Short);
        shop.assert_level(2);
    }
}

#[test]
fn what_is_here_already_may_come_short_and_is_acknowledged() {
    let mut shop = Shop::new(1);
    shop.link(1, Dialect::Short);
    shop.sell_live(1);
    shop.sell_live(1);
    shop.cut(1);
    // Till 1 says by hand what it said before.
    shop.give(HUB, Input::PeerUp(writer(1), Dialect::Short));
    shop.nodes[HUB].out.clear();
    let before = shop.nodes[HUB].host.replica().batch_count();
    let held: Vec<Carried> = (0..3).map(|ordinal| shop.batch(1, ordinal)).collect();
    let again = [held.clone(), held].concat();
    let batches = Familiar::default().write(&again).unwrap();
    shop.give(HUB, Input::Message(writer(1), Message::Short { number: 1, batches }.encode()));
    let answers: Vec<Message> =
        shop.nodes[HUB].out.iter().map(|(_, frame)| Message::decode(frame).unwrap()).collect();
    assert!(matches!(answers.as_slice(), [Message::Ack { number: 1, .. }]), "{answers:?}");
    assert_eq!(shop.nodes[HUB].host.replica().batch_count(), before);
    assert!(shop.nobody_ended() && shop.nodes[HUB].refused.is_empty());
}

#[test]
fn what_was_sold_one_by_one_comes_to_a_new_till_short_if_it_is_little_and_in_full_if_it_is_much() {
    for (sales, written_short) in [(20, true), (100, false)] {
        let mut shop = Shop::new(2);
        shop.link(1, Dialect::Short);
        for _ in 0..sales {
            shop.sell_live(1);
        }
        shop.give(HUB, Input::PeerUp(writer(2), Dialect::Short));
        shop.give(2, Input::PeerUp(writer(HUB), Dialect::Short));
        let carried = shop.carry();
        let (.., message) = carried.iter().find(|(from, to, ..)| (*from, *to) == (HUB, 2)).unwrap();
        let count = likes(message).map(|likes| likes.len());
        assert_eq!(count.is_some(), written_short, "{sales} sales");
        assert!(count.is_none_or(|count| count <= SHORT_BATCHES_LIMIT));
        assert_eq!(shop.sell_live(1).iter().filter(|message| likes(&message.3).is_some()).count(), 2);
        shop.assert_level(sales + 1);
        assert!(shop.nobody_ended());
    }
}

#[test]
fn captures_of_many_records_go_as_they_did() {
    let mut shop = Shop::new(1);
    for _ in 0..30 {
        shop.sell(1);
    }
    shop.give(HUB, Input::PeerUp(writer(1), Dialect::Short));
    shop.give(1, Input::PeerUp(writer(HUB), Dialect::Short));
    let carried = shop.carry();
    let of_till: Vec<_> = carried.iter().filter(|(from, ..)| *from == 1).collect();
    assert!(matches!(of_till.as_slice(), [(.., Message::Batches { batches, .. })] if batches.len() == 1));
    shop.assert_level(30);
}
