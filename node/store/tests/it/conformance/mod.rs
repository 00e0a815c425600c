//! What every datastore does alike.

mod assertions;
mod history;
mod ignored;
mod outbox;
mod reads;
mod replication;
mod snapshots;
mod together;
mod writes;

macro_rules! suite {
    ($($case:path => $name:ident,)+) => {
        mod memory {
            $(#[tokio::test] async fn $name() { crate::support::in_memory($case).await; })+
        }
        mod sqlite {
            $(#[tokio::test] async fn $name() { crate::support::in_sqlite($case).await; })+
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { crate::support::in_postgres($case).await; })+
        }
        mod mysql {
            $(#[tokio::test] async fn $name() { crate::support::in_mysql($case).await; })+
        }
    };
}

suite! {
    super::writes::concurrent_writers_leave_no_gaps => concurrent_writers_leave_no_gaps,
    super::ignored::what_is_so_already_may_be_ignored => what_is_so_already_may_be_ignored,
    super::writes::a_failed_write_changes_nothing => a_failed_write_changes_nothing,
    super::together::each_of_many_writes_is_a_revision_of_its_own => each_of_many_writes_is_a_revision_of_its_own,
    super::together::a_write_that_fails_takes_no_other_with_it => a_write_that_fails_takes_no_other_with_it,
    super::together::of_writes_of_one_tuple_the_first_wins => of_writes_of_one_tuple_the_first_wins,
    super::together::a_write_and_a_delete_of_one_tuple_go_one_after_the_other => a_write_and_a_delete_of_one_tuple_go_one_after_the_other,
    super::together::who_gives_up_before_has_not_written => who_gives_up_before_has_not_written,
    super::writes::deletes_come_before_writes => deletes_come_before_writes,
    super::writes::a_store_is_created_listed_and_deleted => a_store_is_created_listed_and_deleted,
    super::writes::later_models_follow_earlier_ones => later_models_follow_earlier_ones,
    super::writes::a_lease_is_taken_over_once_it_ends => a_lease_is_taken_over_once_it_ends,
    super::writes::a_passed_deadline_is_an_error => a_passed_deadline_is_an_error,
    super::reads::tuples_are_filtered => tuples_are_filtered,
    super::reads::pages_follow_the_order_of_bytes => pages_follow_the_order_of_bytes,
    super::reads::changes_are_paged_and_filtered => changes_are_paged_and_filtered,
    super::snapshots::a_snapshot_does_not_see_later_writes => a_snapshot_does_not_see_later_writes,
    super::snapshots::a_round_reads_what_decides => a_round_reads_what_decides,
    super::snapshots::names_are_told_apart_by_their_bytes => names_are_told_apart_by_their_bytes,
    super::snapshots::a_round_reads_a_subjects_objects => a_round_reads_a_subjects_objects,
    super::snapshots::a_round_may_be_large => a_round_may_be_large,
    super::snapshots::a_round_loads_no_more_than_its_limit => a_round_loads_no_more_than_its_limit,
    super::replication::replayed_changes_make_the_same_store => replayed_changes_make_the_same_store,
    super::replication::several_changes_are_applied_at_once => several_changes_are_applied_at_once,
    super::replication::only_the_next_change_of_the_epoch_is_applied => only_the_next_change_of_the_epoch_is_applied,
    super::replication::applying_is_idempotent => applying_is_idempotent,
    super::replication::a_snapshot_replaces_the_store => a_snapshot_replaces_the_store,
    super::replication::a_store_is_only_replaced_by_a_newer_one => a_store_is_only_replaced_by_a_newer_one,
    super::replication::of_two_who_replace_a_store_the_newer_wins => of_two_who_replace_a_store_the_newer_wins,
    super::replication::a_large_store_is_replaced => a_large_store_is_replaced,
    super::history::the_oldest_change_says_from_where_the_changelog_is_whole => the_oldest_change_says_from_where_the_changelog_is_whole,
    super::assertions::assertions_are_kept_by_model => assertions_are_kept_by_model,
    super::outbox::the_outbox_holds_every_revision_in_order => the_outbox_holds_every_revision_in_order,
    super::outbox::it_is_told_how_much_there_is => it_is_told_how_much_there_is,
    super::outbox::a_scan_of_the_outbox_ends_where_it_weighs_enough => a_scan_of_the_outbox_ends_where_it_weighs_enough,
    super::history::trimmed_history_is_an_error => trimmed_history_is_an_error,
}
