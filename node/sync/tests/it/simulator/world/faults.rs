//! What was made or met, counted.

use std::fmt;

macro_rules! faults {
    ($($name:ident: $what:literal),* $(,)?) => {
        /// How often what was made, or met.
        #[derive(Default)]
        pub(crate) struct Faults { $(pub(crate) $name: usize),* }

        impl Faults {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            pub(crate) fn assert_all_happened(&self) {
                $(assert!(self.$name > 0, "never happened: {}", $what);)*
            }
        }

        impl fmt::Display for Faults {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>9}  {}", self.$name, $what)?;)*
                Ok(())
            }
        }
    };
}

faults! {
    writes: "revisions committed at central",
    dropped: "messages dropped",
    repeated: "messages repeated",
    delayed: "messages delayed",
    overtaken: "messages that overtook another",
    parted: "messages lost to a parted network",
    garbage: "records turned to garbage",
    announced: "change sets too large for the edge's topic",
    bogus_beats: "heartbeats of a reign that never was",
    bogus_announced: "announced revisions that never were",
    unavailable: "calls that failed",
    trims: "times history was trimmed",
    trimmed: "calls for trimmed history",
    fail_overs: "failovers that lost revisions (epoch + 1)",
    regional_crashes: "regional restarts",
    edge_crashes: "edge crashes",
    files: "views restored from an older file",
    gaps: "gaps met by the region",
    skipped: "change sets skipped by the region",
    fenced: "change sets of an older epoch refused by the region",
    new_epochs: "newer epochs met by the region",
    published: "views published by the edge",
    coverage_checks: "covered types compared with central",
    decided: "answers decided and compared with the full answer",
    undecided: "answers left to upstream",
    fresh: "views found fresh enough, and compared with central's clock",
    stale: "views too old to be served",
    kept: "kept answers used, and compared with central",
    ended: "kept answers ended by a touch",
    vouched: "times upstream vouched for what the edge held",
}
