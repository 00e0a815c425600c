//! A topic, nodes that read it each at its own pace, and a client that moves between them with the positions it was told.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::frames::Filter;
use crate::outbox::Next;
use crate::ports::Question;
use crate::record::Place;

const PARTITIONS: usize = 2;
const ORGANIZATION: &str = "organization:1";

/// Object and partition of a record; whether it belongs to the organization besides.
const KINDS: [(&str, usize, bool); 4] = [
    ("event:0", 0, false),
    ("event:1", 1, true),
    ("event:2", 0, true),
    ("event:3", 1, false),
];

#[derive(Debug, Clone)]
enum Step {
    /// Something happens to an object.
    Happens(usize),
    /// A node reads the next record of a partition.
    Reads(usize, usize),
    /// A node finds one that it cannot read.
    Noise(usize),
    /// The client takes so many frames.
    Takes(usize),
    Pings,
    /// What a subscription rests on changes.
    Doubt(usize),
    /// It still may.
    Allowed(usize),
    /// Nobody can say so.
    Unreachable(usize),
    /// The connection is lost, and made again to a node.
    Moves(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sub = || 0..3_usize;
    let step = prop_oneof![
        6 => (0..KINDS.len()).prop_map(Step::Happens),
        1 => (0..PARTITIONS).prop_map(Step::Noise),
        8 => (0..2_usize, 0..PARTITIONS).prop_map(|(node, partition)| Step::Reads(node, partition)),
        6 => (1..4_usize).prop_map(Step::Takes),
        3 => Just(Step::Pings),
        2 => sub().prop_map(Step::Doubt),
        2 => sub().prop_map(Step::Allowed),
        1 => sub().prop_map(Step::Unreachable),
        1 => (0..2_usize).prop_map(Step::Moves),
    ];
    prop::collection::vec(step, 1..120)
}

type Log = [Vec<Option<usize>>; PARTITIONS];

fn store() -> StoreId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

/// A node, and how far it has read.
struct Node {
    hub: Hub,
    read: [usize; PARTITIONS],
}

impl Node {
    fn new() -> Self {
        let hub = Hub::new(Limits {
            queue_records: 10_000,
            history_records: 10_000,
            ..Limits::default()
        });
        hub.reading("cluster", "topic", &[0; PARTITIONS]);
        Self {
            hub,
            read: [0; PARTITIONS],
        }
    }

    fn read(&mut self, log: &Log, partition: usize) {
        let Some(what) = log[partition].get(self.read[partition]) else {
            return;
        };
        let offset = i64::try_from(self.read[partition]).unwrap();
        let place = Place { partition, offset };
        self.read[partition] += 1;
        let Some(kind) = what else {
            return self.hub.skip(place);
        };
        let (object, _, belongs) = KINDS[*kind];
        self.hub.publish(Record {
            store: store(),
            object: object.to_owned(),
            objects: belongs
                .then(|| ORGANIZATION.to_owned())
                .into_iter()
                .collect(),
            data: serde_json::value::to_raw_value(&json!({
                "place": [partition, offset],
                "odd": offset % 2,
            }))
            .unwrap(),
            at: 0,
            place,
        });
    }

    fn read_all(&mut self, log: &Log) {
        for partition in 0..PARTITIONS {
            while self.read[partition] < log[partition].len() {
                self.read(log, partition);
            }
        }
    }
}

/// What a client subscribes with.
#[derive(Debug, Clone, Copy)]
enum How {
    /// To everything.
    All,
    /// To records with an odd offset.
    Odd,
    /// To the latest of each object.
    Latest,
}

impl How {
    fn filter(self) -> Option<Filter> {
        let odd = || serde_json::from_value(json!({"odd": [1]})).unwrap();
        matches!(self, Self::Odd).then(odd)
    }

    fn lets_through(self, offset: usize) -> bool {
        !matches!(self, Self::Odd) || offset % 2 == 1
    }
}

/// A subscription as its client knows it.
struct Mine {
    object: &'static str,
    how: How,
    sub: Sub,
    position: Option<String>,
    is_live: bool,
    /// How far the node had read when it was opened the last time.
    opened_at: [usize; PARTITIONS],
    /// The same when the client was told so for the first time.
    from: Option<[usize; PARTITIONS]>,
    got: Vec<(String, usize, usize)>,
}

/// The client, the nodes and the topic.
struct World {
    log: Log,
    nodes: [Node; 2],
    at: usize,
    outbox: Arc<Outbox>,
    mine: Vec<Mine>,
    /// The store's revision.
    now: u64,
}

impl World {
    fn new(objects: &[(&'static str, How)]) -> Self {
        let nodes = [Node::new(), Node::new()];
        let outbox = Arc::new(nodes[0].hub.outbox());
        let mine = objects.iter().map(|&(object, how)| Mine {
            object,
            how,
            sub: 0,
            position: None,
            is_live: false,
            opened_at: [0; PARTITIONS],
            from: None,
            got: Vec::new(),
        });
        let mut world = Self {
            log: Default::default(),
            nodes,
            at: 0,
            outbox,
            mine: mine.collect(),
            now: 1,
        };
        for at in 0..world.mine.len() {
            world.subscribe(at);
        }
        world
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Happens(kind) => self.log[KINDS[kind].1].push(Some(kind)),
            Step::Noise(partition) => self.log[partition].push(None),
            Step::Reads(node, partition) => self.nodes[node].read(&self.log, partition),
            Step::Takes(most) => {
                for _ in 0..most {
                    self.take();
                }
            }
            Step::Pings => self.nodes[self.at].hub.pong(store(), &self.outbox),
            Step::Doubt(at) => self.doubt(at),
            Step::Allowed(at) => self.allowed(at),
            Step::Unreachable(at) => self.unreachable(at),
            Step::Moves(node) => self.moves(node),
        }
    }

    fn decided(&self, at: usize) -> Decided {
        Decided {
            allowed: true,
            position: Position::new(1, self.now),
            rests: Rests::On(vec![u64::try_from(at).unwrap()]),
            model: None,
            served_by: Arc::from("test"),
        }
    }

    fn subscribe(&mut self, at: usize) {
        let decided = self.decided(at);
        let node = &mut self.nodes[self.at];
        let mine = &mut self.mine[at];
        if let Some(position) = &mine.position {
            // It waits until it has read as much.
            let there = Cursor::decode(position).unwrap();
            for partition in 0..PARTITIONS {
                let next = usize::try_from(there.next[partition]).unwrap();
                while node.read[partition] < next {
                    node.read(&self.log, partition);
                }
            }
        }
        mine.opened_at = node.read;
        let id: Arc<str> = at.to_string().into();
        mine.sub = node.hub.number();
        self.outbox.reserve(
            mine.sub,
            id.clone(),
            mine.object.into(),
            matches!(mine.how, How::Latest),
        );
        let ticket = node.hub.begin(store());
        let subscription = Subscription {
            id,
            object: mine.object.into(),
            outbox: Arc::clone(&self.outbox),
            filter: mine.how.filter().map(Arc::new),
            question: None::<Question>,
            showing: Arc::default(),
        };
        let beginning = Beginning {
            position: mine.position.as_deref(),
            last: false,
        };
        let place = (store(), ticket, mine.sub);
        node.hub
            .open(place, subscription, decided, &beginning)
            .unwrap();
        node.hub.finish(store(), ticket);
    }

    /// Whether there was something for the client.
    fn take(&mut self) -> bool {
        let Next::Frame { frame, .. } = self.outbox.next() else {
            return false;
        };
        let told: Value = serde_json::from_str(frame.as_str()).unwrap();
        let position = told["position"].as_str().map(str::to_owned);
        let by_id = || told["id"].as_str().unwrap().parse::<usize>().unwrap();
        match told["type"].as_str().unwrap() {
            "subscribed" => {
                let mine = &mut self.mine[by_id()];
                assert_eq!(
                    told["recovered"].as_bool(),
                    mine.position.is_some().then_some(true),
                    "{told}"
                );
                mine.from.get_or_insert(mine.opened_at);
                (mine.is_live, mine.position) = (true, position);
            }
            "record" => self.record(&told, position.as_ref()),
            "pong" => {
                let live = self.mine.iter_mut().filter(|mine| mine.is_live);
                live.for_each(|mine| mine.position = position.clone().or(mine.position.take()));
            }
            "unsubscribed" => {
                let at = by_id();
                self.mine[at].is_live = false;
                self.subscribe(at);
            }
            other => panic!("{other}"),
        }
        true
    }

    fn record(&mut self, told: &Value, position: Option<&String>) {
        let number =
            |at: usize| usize::try_from(told["data"]["place"][at].as_u64().unwrap()).unwrap();
        let names: Vec<_> = [&told["object"], &told["objects"][0]].into();
        let only = told["id"].as_str();
        for (at, mine) in self.mine.iter_mut().enumerate() {
            let is_its = match only {
                Some(id) => id == at.to_string(),
                None => names.iter().any(|name| **name == mine.object),
            };
            if mine.is_live && is_its {
                let object = told["object"].as_str().unwrap().to_owned();
                // It may have come for another of the subscriptions; it counts for all that it belongs to.
                if mine.how.lets_through(number(1)) {
                    mine.got.push((object, number(0), number(1)));
                }
                mine.position = position.cloned().or(mine.position.take());
            }
        }
    }

    fn doubt(&mut self, at: usize) {
        self.now += 1;
        let position = Position::new(1, self.now);
        let touched = Touched::Sets(vec![(position, vec![u64::try_from(at).unwrap()])]);
        self.nodes[self.at].hub.touched(store(), position, touched);
    }

    fn allowed(&mut self, at: usize) {
        let (hub, decided) = (&self.nodes[self.at].hub, self.decided(at));
        let ticket = hub.begin(store());
        let room = hub.room(store());
        lock(&room).decided(self.mine[at].sub, decided, ticket);
        hub.finish(store(), ticket);
    }

    fn unreachable(&mut self, at: usize) {
        let room = self.nodes[self.at].hub.room(store());
        lock(&room).ends(self.mine[at].sub, Reason::AuthorityUnreachable);
    }

    fn moves(&mut self, node: usize) {
        for mine in &mut self.mine {
            self.nodes[self.at].hub.leave(store(), mine.sub, None);
            mine.is_live = false;
        }
        self.at = node;
        self.outbox = Arc::new(self.nodes[node].hub.outbox());
        for at in 0..self.mine.len() {
            self.subscribe(at);
        }
    }

    /// Has all come to an end: everything read, allowed and taken.
    fn settle(&mut self) {
        self.nodes[self.at].read_all(&self.log);
        for at in 0..self.mine.len() {
            self.allowed(at);
        }
        while self.take() {}
    }

    /// What a subscription was to get.
    fn due(&self, mine: &Mine) -> Vec<(String, usize, usize)> {
        let from = mine.from.unwrap();
        let mut due = Vec::new();
        for (partition, records) in self.log.iter().enumerate() {
            for (offset, kind) in records.iter().enumerate().skip(from[partition]) {
                let Some((object, _, belongs)) = kind.map(|kind| KINDS[kind]) else {
                    continue;
                };
                let is_its = object == mine.object || belongs && mine.object == ORGANIZATION;
                if is_its && mine.how.lets_through(offset) {
                    due.push((object.to_owned(), partition, offset));
                }
            }
        }
        due
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever is held, ended, lost and read late: each record of each subscription comes once, in its partition's order.
    #[test]
    fn no_record_is_lost_or_doubled_with_the_positions_that_were_told(steps in steps()) {
        for all in [
            [("event:0", How::All), (ORGANIZATION, How::All), ("event:9", How::All)],
            // They overlap: one may be held while another goes on.
            [("event:1", How::All), (ORGANIZATION, How::All), ("event:2", How::All)],
            [("event:1", How::Odd), (ORGANIZATION, How::All), ("event:2", How::All)],
            [("event:1", How::All), (ORGANIZATION, How::Odd), ("event:2", How::Odd)],
        ] {
            let mut world = World::new(&all);
            for step in &steps {
                world.step(step);
            }
            world.settle();
            for mine in &world.mine {
                let mut got = mine.got.clone();
                got.sort_by_key(|(_, partition, _)| *partition);
                prop_assert_eq!(got, world.due(mine), "{} of {:?}", mine.object, all);
            }
        }
    }

    /// Who wants the latest of each object only ends with that, of every object.
    #[test]
    fn the_latest_of_each_object_is_not_lost_to_conflation(steps in steps()) {
        for all in [
            [(ORGANIZATION, How::Latest), ("event:0", How::Latest), ("event:9", How::All)],
            [(ORGANIZATION, How::Latest), ("event:1", How::All), ("event:2", How::Latest)],
        ] {
            let mut world = World::new(&all);
            for step in &steps {
                world.step(step);
            }
            world.settle();
            for mine in &world.mine {
                let latest = |all: &[(String, usize, usize)]| -> BTreeMap<String, (usize, usize)> {
                    let each = all.iter().map(|(object, partition, offset)| (object.clone(), (*partition, *offset)));
                    each.collect()
                };
                prop_assert_eq!(latest(&mine.got), latest(&world.due(mine)), "{} of {:?}", mine.object, all);
            }
        }
    }
}

/// The quiet object of a busy store: its position would be forgotten, but for the pongs.
#[test]
fn a_quiet_objects_client_recovers_in_a_busy_store() {
    let limits = Limits {
        history_bytes: 2_000,
        ..Limits::default()
    };
    let mut world = World::new(&[("event:9", How::All)]);
    world.nodes[0].hub = Hub::new(limits);
    world.nodes[0]
        .hub
        .reading("cluster", "topic", &[0; PARTITIONS]);
    world.outbox = Arc::new(world.nodes[0].hub.outbox());
    world.subscribe(0);
    while world.take() {}
    let first = world.mine[0].position.clone();
    for _ in 0..100 {
        world.step(&Step::Happens(0));
        world.nodes[0].read_all(&world.log);
    }
    world.step(&Step::Pings);
    while world.take() {}
    assert_ne!(world.mine[0].position, first);
    let recovered = |world: &mut World| {
        world.moves(0);
        let Next::Frame { frame, .. } = world.outbox.next() else {
            panic!("nothing was told");
        };
        let told: Value = serde_json::from_str(frame.as_str()).unwrap();
        told["recovered"].as_bool().unwrap()
    };
    assert!(recovered(&mut world));
    world.mine[0].position = first;
    assert!(!recovered(&mut world), "its first is forgotten");
}
