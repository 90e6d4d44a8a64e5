//! Listings of keys: pages, owners that cannot answer, and what is left out.

use bytes::Bytes;
use gramme_object::Key;
use gramme_quorum::{Failure, GetError};
use gramme_replica::{ClientPut, ClientRequest, Cursor, Input, KeysPage, Response, Ticket};
use gramme_ring::{NodeId, PartitionId};
use gramme_wire::PeerMessage;
use gramme_wire::peer::{Keys, KeysReply, Status};

use crate::bench::*;

impl Bench {
    fn list(&mut self, bucket: Option<&str>, after: Option<Cursor>) {
        let bucket = bucket.map(|bucket| Bytes::copy_from_slice(bucket.as_bytes()));
        let request =
            ClientRequest::Keys { bucket_type: "default".to_owned(), bucket, after, timeout: 1_000 };
        self.step(Input::Client { ticket: Ticket(50), request });
    }

    /// All pages of a listing that this node answers alone, a request for each.
    fn list_all(&mut self, bucket: Option<&str>) -> Vec<KeysPage> {
        let mut pages: Vec<KeysPage> = Vec::new();
        loop {
            self.list(bucket, pages.last().and_then(|page| page.next.clone()));
            let Response::Keys(Ok(page)) = self.answer() else { panic!("no page") };
            let is_last = page.next.is_none();
            pages.push(page);
            if is_last {
                return pages;
            }
        }
    }

    /// The pages that other nodes are asked for since the last time.
    fn asked(&mut self) -> Vec<(NodeId, u64, Keys)> {
        let sent = std::mem::take(&mut self.sent);
        let asked = sent.into_iter().filter_map(|(to, id, message)| match message {
            PeerMessage::Keys(keys) => Some((to, id, keys)),
            _ => None,
        });
        asked.collect()
    }

    fn tell(&mut self, from: NodeId, id: u64, status: Status, keys: Vec<Key>, next: Option<Key>) {
        let reply = KeysReply { header: header(status), keys, next };
        self.step(Input::Message { from, id, message: PeerMessage::KeysReply(reply) });
    }

    fn key_in(&self, partition: PartitionId) -> Key {
        let partition_of = |key: &Key| self.replica.layout().partition_of(KEYSPACE.hash(key.as_bytes()));
        keys_of("b", 1_000).into_iter().find(|key| partition_of(key) == partition).expect("a key of it")
    }

    /// Goes on until a partition that another node must be asked for.
    fn first_asked(&mut self) -> (NodeId, u64, Keys) {
        self.list(Some("b"), None);
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "one owner at a time");
        asked.remove(0)
    }
}

/// Every other node is there, and this one owns not everything.
fn of_five() -> Bench {
    let mut bench = bench(5);
    (2..=5).for_each(|node| bench.step(Input::PeerUp(NodeId(node))));
    bench.sent.clear();
    bench
}

fn names(pages: &[KeysPage]) -> Vec<String> {
    let keys = pages.iter().flat_map(|page| &page.keys);
    let mut names: Vec<_> = keys.map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned()).collect();
    names.sort();
    names
}

fn keys_of(bucket: &str, count: usize) -> Vec<Key> {
    (0..count).map(|number| Key::new("default", bucket, format!("k{number}")).expect("valid parts")).collect()
}

fn store(bench: &mut Bench, keys: &[Key]) {
    for key in keys {
        bench.put(1, ClientPut { key: key.clone(), ..client_put("v") });
        bench.commit_all();
    }
    bench.replies.clear();
}

#[test]
fn a_bucket_and_a_type_are_listed_and_nothing_else() {
    let mut bench = bench(3);
    let (ours, others) = (keys_of("b", 40), keys_of("c", 7));
    store(&mut bench, &ours);
    store(&mut bench, &others);
    assert_eq!(names(&bench.list_all(Some("b"))).len(), 40);
    assert_eq!(names(&bench.list_all(Some("c"))).len(), 7);
    assert_eq!(names(&bench.list_all(Some("d"))), Vec::<String>::new());
    let mut all = names(&bench.list_all(None));
    assert_eq!(all.len(), 47);
    all.dedup();
    assert_eq!(all.len(), 47, "each once");
    let request =
        ClientRequest::Keys { bucket_type: "none".to_owned(), bucket: None, after: None, timeout: 1_000 };
    bench.step(Input::Client { ticket: Ticket(50), request });
    assert!(matches!(bench.answer(), Response::Keys(Err(GetError::UnknownType(_)))));
}

#[test]
fn what_is_deleted_is_not_listed() {
    let mut bench = bench(3);
    store(&mut bench, &[key()]);
    assert_eq!(names(&bench.list_all(Some("b"))).len(), 1);
    bench.get(2);
    let Response::Get(Ok(found)) = bench.answer() else { panic!("no value") };
    bench.put(3, ClientPut { content: None, context: found.context, ..client_put("") });
    bench.commit_all();
    bench.replies.clear();
    assert_eq!(names(&bench.list_all(Some("b"))), Vec::<String>::new());
}

/// A last-write-wins key keeps values beside a delete; nobody is shown them.
#[test]
fn a_last_write_that_deletes_hides_the_others() {
    let mut bench = bench(3);
    let key = Key::new("lww", "b", "k").expect("valid parts");
    bench.put(1, ClientPut { key: key.clone(), ..client_put("v") });
    bench.commit_all();
    bench.now += 10_000;
    bench.put(2, ClientPut { key, content: None, ..client_put("") });
    bench.commit_all();
    bench.replies.clear();
    let request =
        ClientRequest::Keys { bucket_type: "lww".to_owned(), bucket: None, after: None, timeout: 1_000 };
    bench.step(Input::Client { ticket: Ticket(50), request });
    let Response::Keys(Ok(page)) = bench.answer() else { panic!("no page") };
    assert_eq!(page.keys, Vec::new());
}

/// More rows than one answer takes: it ends, and goes on where it ended, though few of them are wanted.
#[test]
fn a_long_listing_comes_in_pages() {
    let mut bench = bench(3);
    let (few, many) = (keys_of("b", 3), keys_of("c", 9_000));
    store(&mut bench, &few);
    for key in &many {
        bench.objects.insert(key.clone(), bench.objects[&few[0]].clone());
    }
    let pages = bench.list_all(Some("b"));
    assert!(pages.len() > 1, "nine thousand rows are more than one answer looks at");
    assert_eq!(names(&pages).len(), 3);
    let pages = bench.list_all(Some("c"));
    assert!(pages.iter().all(|page| page.keys.len() < 2_000), "an answer is bounded");
    let mut names = names(&pages);
    names.dedup();
    assert_eq!(names.len(), 9_000, "each once");
}

#[test]
fn an_owner_that_cannot_answer_is_followed_by_another() {
    type Fails = fn(&mut Bench, NodeId, u64);
    let ways: [Fails; 3] = [
        |bench, from, id| bench.tell(from, id, Status::Amnesiac, Vec::new(), None),
        |bench, from, _| bench.step(Input::PeerDown(from)),
        |bench, from, id| bench.step(Input::Undelivered { to: from, id, busy: false }),
    ];
    for fails in ways {
        let mut bench = of_five();
        let (first, id, keys) = bench.first_asked();
        fails(&mut bench, first, id);
        let (second, next, again) = bench.asked().pop().expect("another owner is asked");
        assert_ne!(first, second);
        assert_ne!(id, next, "a late answer of the first must not pass for the second's");
        assert_eq!((keys.header.partition, keys.after), (again.header.partition, again.after));
        assert!(bench.replies.is_empty());
    }
}

/// Another owner goes on where the first one stood, and skips nothing.
#[test]
fn an_owner_that_fails_in_the_middle_is_followed_from_there() {
    let mut bench = of_five();
    let (first, id, keys) = bench.first_asked();
    let found = bench.key_in(keys.header.partition);
    bench.tell(first, id, Status::DoneSynced, vec![found.clone()], Some(found.clone()));
    let (same, id, next) = bench.asked().pop().expect("the next page");
    assert_eq!((same, next.after.as_ref()), (first, Some(&found)));
    bench.tell(first, id, Status::DiskError, Vec::new(), None);
    let (second, _, again) = bench.asked().pop().expect("another owner is asked");
    assert_ne!(second, first);
    assert_eq!((again.header.partition, again.after), (keys.header.partition, Some(found)));
}

#[test]
fn nobody_is_left_to_ask() {
    let mut bench = of_five();
    let (mut owner, mut id, _) = bench.first_asked();
    for _ in 0..2 {
        bench.tell(owner, id, Status::DiskError, Vec::new(), None);
        (owner, id, _) = bench.asked().pop().expect("another owner is asked");
    }
    bench.tell(owner, id, Status::DiskError, Vec::new(), None);
    let Response::Keys(Err(GetError::Unavailable(shortfall))) = bench.answer() else { panic!("an answer") };
    assert_eq!(shortfall.failed.len(), 3, "{shortfall:?}");
}

#[test]
fn a_page_that_comes_twice_is_taken_once() {
    let mut bench = of_five();
    let (owner, id, keys) = bench.first_asked();
    let found = bench.key_in(keys.header.partition);
    for _ in 0..2 {
        bench.tell(owner, id, Status::DoneSynced, vec![found.clone()], Some(found.clone()));
    }
    let asked = bench.asked();
    let [(_, second, next)] = &asked[..] else { panic!("one page is asked for: {asked:?}") };
    assert_eq!(next.after.as_ref(), Some(&found));
    assert_ne!(*second, id);
}

#[test]
fn an_owner_that_is_silent_until_the_end_is_named() {
    let mut bench = of_five();
    let (owner, ..) = bench.first_asked();
    bench.now += 1_000_000;
    bench.step(Input::Timer);
    let Response::Keys(Err(GetError::Unavailable(shortfall))) = bench.answer() else { panic!("an answer") };
    assert_eq!(shortfall.failed, [(owner, Failure::Silent)]);
}

#[test]
fn a_node_answers_for_its_own_partitions_alone() {
    let mut bench = of_five();
    let foreign = bench.foreign_key();
    let mut header = bench.header();
    header.partition = bench.replica.layout().partition_of(KEYSPACE.hash(foreign.as_bytes()));
    let keys = Keys { header, bucket_type: "default".to_owned(), bucket: None, after: None };
    bench.step(Input::Message { from: B, id: 7, message: PeerMessage::Keys(keys.clone()) });
    let reply = |bench: &mut Bench| match std::mem::take(&mut bench.sent).pop() {
        Some((B, 7, PeerMessage::KeysReply(reply))) => reply,
        other => panic!("{other:?}"),
    };
    assert_eq!(reply(&mut bench).header.status, Status::NotOwner);
    let mut ours = keys;
    ours.header.partition = bench.owned();
    bench.step(Input::Message { from: B, id: 7, message: PeerMessage::Keys(ours.clone()) });
    assert_eq!(reply(&mut bench).header.status, Status::DoneSynced);
    // A cursor from elsewhere is none of this partition's.
    ours.after = Some(foreign);
    bench.step(Input::Message { from: B, id: 7, message: PeerMessage::Keys(ours) });
    assert_eq!(reply(&mut bench).header.status, Status::NotOwner);
}
