"""For each mutant the tests that are to catch it, and what the simulator can see of it.

M01 to M30 are the rules that others broke and lost data by, from M31 on those that this product marks with **S** in its
design and its code. Where the product does not have yet what a rule is about, the nearest rule that it has is taken.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """`tests`: what pytest is to run. `unseen`: why the simulator does not see it; None where it does, within 2,000
    seeds. `instead_of`: what the product does not have yet."""

    tests: tuple[str, ...]
    unseen: str | None = None
    instead_of: str | None = None


def _in(file: str, *tests: str) -> tuple[str, ...]:
    return tuple(f"tests/{file}.py::{test}" for test in tests)


def _scenario(*names: str) -> tuple[str, ...]:
    return _in("scenarios/test_scenarios", *(f"test_scenario[{name}]" for name in names))


def _crash(model: str) -> tuple[str, ...]:
    """Power fails at every call of a script, and leaves of the disk what the model says."""
    return _in(CRASHES, f"test_every_crash_state_recovers[{model}]")


CRASHES = "crash/test_crash_states"
DEADLINES = "unit/node/test_node_deadlines"
DISK_FULL = "unit/node/test_node_disk_full"
FOLLOWER_READS = "unit/node/test_node_follower_reads"
FORWARDS = "unit/node/test_node_forwards"
JOINING = "unit/node/test_node_joining"
LEADER_REPLIES = "unit/node/test_node_leader_replies"
LOST = "unit/node/test_node_lost_leadership"
COMPARING = "unit/node/test_node_comparing"
NEW_LEADER = "unit/node/test_node_new_leader"
PEERS = "unit/node/test_node_peers"
RECORD = "unit/log/test_log_record"
RECOVERY = "unit/log/test_log_recovery"
WAL = "unit/log/test_log_wal"

TABLE = {
    "M01": Row(_scenario("follower_acks_when_durable")),
    "M02": Row(_in(LEADER_REPLIES, "test_a_cluster_of_one_answers_a_write_when_its_disk_has_it")),
    "M03": Row(_scenario("vote_waits_for_the_disk")),
    "M04": Row(_in("unit/node/test_node_restart", "test_it_knows_in_which_term_it_has_voted_and_for_whom")),
    "M05": Row(_scenario("fig8")),
    "M06": Row(_in(NEW_LEADER, "test_a_write_that_the_old_leader_acknowledged_is_read_from_the_new_one")),
    "M07": Row(_in(LEADER_REPLIES, "test_a_read_is_answered_by_a_round_that_was_sent_after_it")),
    "M08": Row(_scenario("read_dup")),
    "M09": Row(_scenario("read_safe")),
    "M10": Row(_in(FOLLOWER_READS, "test_a_follower_reads_what_was_acknowledged_anywhere")),
    "M11": Row(_scenario("append_commit_rule")),
    "M12": Row(_scenario("acks_never_go_back")),
    "M13": Row(_scenario("append_cuts_only_conflicts")),
    "M14": Row(_scenario("vote_uptodate")),
    "M15": Row(_in(DEADLINES, "test_a_forward_without_an_answer_is_in_doubt_at_its_deadline_and_stays_answered")),
    "M16": Row(
        _in(FORWARDS, "test_a_broken_link_leaves_a_forward_in_doubt_and_it_never_runs_twice"),
        instead_of="M16, requests that are applied once by a table of sessions",
    ),
    "M17": Row(
        _in(JOINING, "test_terms_that_it_may_have_voted_in_are_forsworn_before_it_votes"),
        instead_of="M17, the table of sessions in a checkpoint",
    ),
    "M18": Row(
        _in(FOLLOWER_READS, "test_it_is_not_enough_that_it_is_committed"),
        instead_of="M18, an applied seq that is stored",
    ),
    "M19": Row(_crash("synced")),
    "M20": Row(_crash("renames_first")),
    "M21": Row(_crash("kept"), instead_of="M21, a log that is deleted once a checkpoint covers it"),
    "M22": Row(_in(RECORD, "test_every_bit_changed_and_every_length_is_bad")),
    "M23": Row(_in("crash/test_cuts_and_flips", "test_every_byte_changed")),
    "M24": Row(_crash("torn_512")),
    "M25": Row(
        _in(CRASHES, "test_after_an_fsync_that_failed_nothing_is_acknowledged_and_the_next_start_is_a_good_one")
    ),
    "M26": Row(_in(CRASHES, "test_a_stopped_disk_is_synced_before_it_is_read")),
    "M27": Row(_scenario("same_seq_other_term")),
    "M28": Row(_scenario("check_quorum")),
    "M29": Row(
        _in(
            "unit/node/test_node_log_time",
            "test_a_clock_that_is_set_back_does_not_take_it_back_and_it_goes_on_at_the_pace_of_time",
        ),
        instead_of="M29, keys that expire",
    ),
    "M30": Row(_in(FORWARDS, "test_all_but_the_leader_of_that_very_term_refuse_a_forward")),
    "M31": Row(_crash("synced")),
    "M32": Row(_crash("kept")),
    "M33": Row(
        _in(WAL, "test_what_does_not_continue_the_log_is_not_written")
        + _in("crash/test_cuts_and_flips", "test_a_valid_record_in_the_wrong_place_is_damage_even_above_the_mark")
    ),
    "M34": Row(_scenario("corruption_is_not_conflict")),
    "M35": Row(
        _in("unit/node/test_node_restart", "test_it_applies_what_its_records_say_is_committed_and_nothing_more")
    ),
    "M36": Row(_in(LOST, "test_nothing_of_what_was_cut_is_seen_when_the_node_leads_again")),
    "M37": Row(_in(LEADER_REPLIES, "test_a_flush_that_is_not_committed_hides_what_is_applied")),
    "M38": Row(_in(LEADER_REPLIES, "test_an_increment_builds_on_what_is_committed_and_not_applied_yet")),
    "M39": Row(_in(NEW_LEADER, "test_a_commit_that_is_not_applied_yet_is_waited_for")),
    "M40": Row(_scenario("read_new_leader")),
    "M41": Row(_in(RECOVERY, "test_a_foreign_directory_is_not_touched")),
    "M42": Row(_in(PEERS, "test_a_stranger_is_refused_with_the_reason")),
    "M43": Row(_in(JOINING, "test_who_has_a_ballot_but_no_record_is_not_empty")),
    "M44": Row(_in(JOINING, "test_a_wiped_member_does_not_join_before_it_holds_durably_what_was_committed")),
    "M45": Row(_in(JOINING, "test_what_a_member_acknowledged_before_it_asked_to_join_commits_nothing_any_more")),
    "M46": Row(_in(JOINING, "test_even_with_every_member_heard_it_takes_the_true_leader_to_join")),
    "M47": Row(_in(JOINING, "test_every_member_must_have_told_its_term")),
    "M48": Row(_crash("synced")),
    "M49": Row(_scenario("aba_disk")),
    "M50": Row(_scenario("held_acks_die_with_their_term")),
    "M51": Row(_scenario("vote_compares_what_is_appended")),
    "M52": Row(_crash("torn_512")),
    "M53": Row(_in("unit/test_runtime_disk", "test_a_cut_takes_what_it_cuts_out_of_what_is_kept")),
    "M54": Row(_crash("kept")),
    "M55": Row(_scenario("position_acknowledges_nothing")),
    "M56": Row(_scenario("acks_of_replaced_records")),
    "M57": Row(_scenario("corruption_is_not_conflict")),
    "M58": Row(_in(LOST, "test_what_was_cut_may_come_back_until_a_newer_term_has_committed")),
    "M59": Row(_in(LOST, "test_what_was_cut_may_come_back_until_a_newer_term_has_committed")),
    "M60": Row(_in(LOST, "test_what_was_cut_runs_again_when_a_newer_term_has_committed")),
    "M61": Row(_in(FORWARDS, "test_all_but_the_leader_of_that_very_term_refuse_a_forward")),
    "M62": Row(_in(FORWARDS, "test_nothing_later_leaves_before_a_forward_is_resolved")),
    "M63": Row(_in(LEADER_REPLIES, "test_what_was_read_from_an_uncommitted_record_is_not_told_before_it_is_committed")),
    "M64": Row(_scenario("majority_of_all_members")),
    "M65": Row(_in("unit/log/test_log_damaged", "test_the_last_record_must_be_what_the_log_goes_on_from")),
    "M66": Row(_in("crash/test_damage_crashes", "test_the_right_to_vote_goes_before_anything_is_mended")),
    "M67": Row(_in(RECOVERY, "test_a_bad_note_takes_the_right_to_vote")),
    "M68": Row(_crash("synced")),
    "M69": Row(_scenario("vote_once")),
    "M70": Row(_in("crash/test_cuts_and_flips", "test_a_torn_tail_is_kept_aside_and_reported")),
    "M71": Row(_crash("synced")),
    "M72": Row(_in(DISK_FULL, "test_what_is_in_a_record_is_in_doubt_at_its_deadline")),
    "M73": Row(_in(COMPARING, "test_a_member_that_stands_aside_takes_part_in_nothing")),
    "M74": Row(_in(COMPARING, "test_nobody_is_set_aside_while_another_has_no_right")),
    "M75": Row(_in(COMPARING, "test_an_order_that_is_not_meant_for_this_log_does_nothing")),
    "M76": Row(_scenario("live_leader_protects")),
    "M77": Row(_in("unit/node/test_node_replyseq", "test_a_read_after_a_write_in_doubt_tells_only_what_is_committed")),
    "M78": Row(_in(LOST, "test_a_pipeline_keeps_its_order_its_number_of_replies_and_its_effects")),
    "M79": Row(_in(PEERS, "test_records_that_were_asked_for_in_another_term_are_not_sent")),
    "M80": Row(_in("unit/log/test_log_damaged", "test_what_was_closed_is_durable")),
    "M81": Row(_in(COMPARING, "test_a_leader_tells_others_only_when_it_has_committed")),
    "M82": Row(_scenario("question_without_a_vote")),
    "M83": Row(_in("unit/node/test_node_put_off", "test_local_reads_see_all_that_is_committed")),
    "M84": Row(_scenario("rounds_ask_enough_of_five")),
}
