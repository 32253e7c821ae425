"""The fault matrix: the rows of network, processes, disks and clocks, and the tests that hold each.

A row's tests are named as pytest names them, below `tests/`. Those of tests/matrix have the row's number in their name;
the others were there before, and are the row's run all the same. `python -m tests.matrix` prints the table.

What lasts long is scaled down in `make test`; KVNODE_TEST_MATRIX=full runs it in full.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """`open`: what of the row no test holds, and why."""

    id: str
    fault: str
    expected: str
    tests: tuple[str, ...]
    open: str = ""


NETWORK = "matrix/test_network.py::test_"
PROCESSES = "matrix/test_processes.py::test_"
FAILPOINTS = "matrix/test_failpoints.py::test_"
DISKS = "matrix/test_disks.py::test_"
DIRECTORIES = "matrix/test_directories.py::test_"
CLOCKS = "matrix/test_clocks.py::test_"
STATES = "crash/test_crash_states.py::test_"
CUTS = "crash/test_cuts_and_flips.py::test_"
HEALING = "faults/test_healing.py::test_"
FAILED = "faults/test_failed_calls.py::test_"
FULL = "faults/test_full_disks.py::test_"

NO_SNAPSHOTS = "There are no checkpoints yet."
NO_EXPIRY = "Keys do not expire yet: it is log time that is looked at."

ROWS = (
    Row(
        "N1",
        "the leader is isolated for 1 to 10 s",
        "another one leads within two election timeouts; the old one steps down; its clients hear UNKNOWN, CLUSTERDOWN",
        (NETWORK + "n01_leader_isolated",),
    ),
    Row(
        "N2",
        "a follower is isolated, again and again",
        "the leader and the term are the same when it is back",
        (NETWORK + "n02_follower_isolated_again_and_again",),
    ),
    Row(
        "N3",
        "the leader can send and not receive",
        "it steps down by itself",
        (NETWORK + "n03_leader_hears_nobody",),
    ),
    Row(
        "N4",
        "a follower can send and not receive",
        "the term stays, and the leader",
        (NETWORK + "n04_follower_hears_nobody",),
    ),
    Row(
        "N5",
        "two do not reach each other, all others reach both; three and five nodes",
        "a leader that stays, after 5 s at most",
        (NETWORK + "n05_partial_partition",),
    ),
    Row(
        "N6",
        "five nodes in groups of two, two and one",
        "no OK, and all errors in time",
        (NETWORK + "n06_no_majority",),
    ),
    Row(
        "N7",
        "the leader's links, 100 ms on and off for 60 s",
        "progress; the leader changes once in 5 s at most",
        (NETWORK + "n07_flapping_links",),
    ),
    Row(
        "N8",
        "delays of 75 ± 50 ms, and of 500 ± 500 ms",
        "no stale read",
        (NETWORK + "n08_slow_links",),
    ),
    Row(
        "N9",
        "30 % are lost: packets, by the kernel; and whole messages",
        "progress",
        ("matrix/test_packet_loss.py::test_n09_lost_packets", NETWORK + "n09_lost_frames"),
    ),
    Row(
        "N10",
        "messages repeated and reordered; those of old connections once more",
        "nothing is applied twice",
        (NETWORK + "n10_repeated_reordered_and_replayed",),
    ),
    Row(
        "N11",
        "a black hole without a reset, 60 s",
        "noticed by heartbeats; no descriptor is lost",
        (NETWORK + "n11_black_hole",),
        "A middlebox that acknowledges for ever what leads into nothing: only the kernel notices dead connections.",
    ),
    Row(
        "N12",
        "connections end in the middle of a message",
        "the part of it is dropped",
        (NETWORK + "n12_cut_in_the_middle_of_a_frame",),
    ),
    Row(
        "N13",
        "256 kbit/s to one follower",
        "p99 of commits at most doubles; what waits for it is bounded",
        (NETWORK + "n13_narrow_link_to_a_follower",),
    ),
    Row(
        "N14",
        "healed in the middle of an election; links that stop and go on one by one",
        "all nodes converge",
        (NETWORK + "n14_healed_in_the_middle_of_an_election", NETWORK + "n14_swizzle"),
    ),
    Row(
        "P1",
        "SIGKILL to the leader under load",
        "writes go on within 2 s mostly, within 5 s always",
        (PROCESSES + "p01_leader_killed", "cluster/test_failover.py::test_the_leader_is_killed"),
    ),
    Row(
        "P2",
        "SIGKILL to a follower",
        "the rate of answers at most halves",
        (PROCESSES + "p02_follower_killed",),
    ),
    Row(
        "P3",
        "SIGKILL to all at once, started again in any order, up to 5 s apart; 100 times",
        "nothing is lost; nothing empty or stale is read in the first second",
        (PROCESSES + "p03_all_killed_at_once", "cluster/test_kills.py::test_all_are_killed_while_clients_write"),
    ),
    Row(
        "P4",
        "SIGKILL to a majority",
        "nothing is lost, and nothing served meanwhile",
        (PROCESSES + "p04_majority_killed",),
    ),
    Row(
        "P5",
        "SIGSTOP to the leader for 0.2 to 30 s, reads waiting",
        "no stale read",
        (PROCESSES + "p05_paused_leader_answers_no_stale_read",),
    ),
    Row(
        "P6",
        "SIGSTOP to a follower for 60 s",
        "p99 at most doubles; it catches up",
        (PROCESSES + "p06_paused_follower_holds_up_nobody",),
    ),
    Row(
        "P7",
        "SIGKILL before and after each deed that others hear of or that is on the disk then",
        "nothing is lost, and a restart always works",
        (
            FAILPOINTS + "p07_killed_at_each_failpoint",
            FAILPOINTS + "p07_killed_while_it_cuts_what_lost_an_election",
            "faults/test_crashes.py::test_killed_at_a_call",
        ),
        NO_SNAPSHOTS + " So no snapshot is written or renamed, and no old segment removed.",
    ),
    Row(
        "P8",
        "one node after the other is killed every 2 s, for 5 minutes",
        "progress whenever two are up",
        (PROCESSES + "p08_crash_loop",),
    ),
    Row(
        "P9",
        "SIGKILL during recovery and catching up",
        "the next start goes on",
        (
            PROCESSES + "p09_killed_while_it_recovers_and_catches_up",
            "cluster/test_kills.py::test_killed_while_it_catches_up",
            HEALING + "killed_while_it_heals",
            HEALING + "killed_while_it_mends",
            STATES + "every_crash_of_the_recovery_recovers",
        ),
        NO_SNAPSHOTS,
    ),
    Row(
        "P10",
        "two processes on one directory",
        "the second one refuses",
        (
            "cluster/test_refusals.py::test_a_second_process_on_a_directory",
            "cluster/test_refusals.py::test_the_same_command_twice",
        ),
    ),
    Row(
        "P11",
        "SIGTERM under load",
        "what was read is answered, the log is durable, exit code 0 within 5 s",
        (
            PROCESSES + "p11_sigterm_under_load",
            "cluster/test_failover.py::test_sigterm_under_load",
            "cluster/test_failover.py::test_sigterm_without_a_majority",
        ),
    ),
    Row(
        "P12",
        "an unexpected exception, in any thread or callback",
        "the process ends, with code 1",
        (PROCESSES + "p12_unexpected_exception_ends_the_process",),
    ),
    Row(
        "P13",
        "rolling restarts, 20 times, under load",
        "no refusal and no unknown outcome at the nodes that are up",
        (PROCESSES + "p13_rolling_restarts", "cluster/test_failover.py::test_rolling_restart_under_load"),
    ),
    Row(
        "D1",
        "the power fails at one node, a majority, all: what was not synced is gone",
        "no acknowledged write is lost",
        (DISKS + "d01_unsynced_data_is_lost", "faults/test_crashes.py::test_all_crash_and_lose_what_was_not_synced"),
    ),
    Row(
        "D2",
        "a crash before every call of a script, in seven models of what the disk holds then",
        "the log is a prefix that has all that was acknowledged; no start is refused",
        (
            STATES + "every_crash_state_recovers",
            STATES + "every_crash_of_the_recovery_recovers",
            "crash/test_damage_crashes.py::test_healing_is_interrupted",
        ),
        NO_SNAPSHOTS,
    ),
    Row(
        "D3",
        "the last segment ends at every length",
        "cut after the last whole record",
        (CUTS + "the_last_segment_ends_at_every_length",),
    ),
    Row(
        "D4",
        "every byte, and every bit, of a log changed",
        "all found, told apart: torn write, hole, damaged end; no wrong entry",
        (
            CUTS + "every_byte_changed",
            CUTS + "every_bit_of_one_segment_changed",
            "unit/log/test_log_reader.py::"
            "test_whatever_is_damaged_no_wrong_record_is_given_and_what_is_not_given_is_told",
        ),
    ),
    Row(
        "D5",
        "bytes changed in the log of a stopped node of a minority",
        "healed from the others, which serve meanwhile; no acknowledged entry is cut",
        (DISKS + "d05_flipped_bytes_at_a_minority", HEALING + "holes_are_filled_while_clients_write"),
    ),
    Row(
        "D6",
        "other entries damaged at each node",
        "they heal from each other",
        (HEALING + "helix",),
    ),
    Row(
        "D7",
        "the same entry damaged at all nodes",
        "all stop, and name it",
        (HEALING + "lost_at_every_member",),
    ),
    Row(
        "D8",
        "a record or a block in another one's place; a file as it was some time ago",
        "found by seq and chain, and healed",
        (
            DISKS + "d08_misplaced_and_old_chunks",
            CUTS + "a_valid_record_in_the_wrong_place_is_damage_even_above_the_mark",
        ),
    ),
    Row(
        "D9",
        "the n-th fsync fails with EIO, at the leader and at a follower; n to 20, KVNODE_TEST_FSYNCS for more",
        "exit code 3, nothing of that batch acknowledged; the others go on, the next start verifies the log",
        (
            FAILED + "the_nth_fsync_fails",
            STATES + "after_an_fsync_that_failed_nothing_is_acknowledged_and_the_next_start_is_a_good_one",
        ),
    ),
    Row(
        "D10",
        "an fsync of a directory, a new segment, a vote fails",
        "the same",
        (FAILED + "a_call_fails", FAILED + "a_call_fails_at_the_start"),
        NO_SNAPSHOTS,
    ),
    Row(
        "D11",
        "a write fails after 1 to all but one of its bytes; a write is short",
        "no half record stays",
        (DISKS + "d11_part_of_a_write_then_an_error", FAILED + "a_call_fails"),
    ),
    Row(
        "D12",
        "ENOSPC at a follower, the leader, all; then there is room",
        "no leader that can not write; all goes on by itself, reads while a majority holds what is committed",
        (
            FULL + "one_is_full",
            FULL + "all_are_full",
            FULL + "what_the_reserve_does_not_hold",
            FULL + "a_majority_is_full",
            FULL + "no_room_half_way",
            FULL + "no_room_at_an_fsync_is_final",
        ),
    ),
    Row(
        "D13",
        "a read fails with EIO, at a start and while another one catches up",
        "not taken for the end of the log",
        (HEALING + "read_errors_at_start", HEALING + "read_errors_while_another_catches_up"),
    ),
    Row(
        "D14",
        "fsyncs of 50 ms, 1 s, 10 s, at the leader and at a follower",
        "the leader makes way beyond an election timeout; a follower holds up nobody",
        (
            DISKS + "d14_slow_fsync_of_the_leader",
            DISKS + "d14_slow_fsync_of_a_follower",
            "faults/test_slow_disks.py::test_the_leaders_fsync_takes_longer_than_an_election",
        ),
    ),
    Row(
        "D15",
        "segments missing, renamed, empty, links, directories, pipes, unreadable; leftovers of a crash",
        "healed, ignored, or refused with exit code 2 and a line",
        (
            DIRECTORIES + "d15_d16_strange_directories",
            "unit/log/test_log_recovery.py::test_something_else_in_place_of_a_file_is_refused",
            "cluster/test_refusals.py::test_links_in_the_directory",
        ),
    ),
    Row(
        "D16",
        "the log of another node, another cluster, another version",
        "a directory is refused with exit code 2; one segment of another node is healed like a missing one",
        (
            DIRECTORIES + "d15_d16_strange_directories",
            "cluster/test_refusals.py::test_the_id_of_another_member",
            "cluster/test_refusals.py::test_another_cluster",
            "cluster/test_refusals.py::test_another_set_of_members",
        ),
    ),
    Row(
        "D17",
        "one copy of the ballot is bad, the other, both",
        "the other one is used; both: no vote",
        (HEALING + "one_copy_of_the_ballot_is_enough", HEALING + "what_a_leader_has_to_mend"),
    ),
    Row(
        "D18",
        "a snapshot that is bad, cut, missing, newer than the log",
        "an older one, or another member's",
        (),
        NO_SNAPSHOTS,
    ),
    Row(
        "D19",
        "the directory of one node is wiped",
        "no vote until it is up to date; nothing is lost",
        (
            "cluster/test_wiped_node.py::test_it_is_brought_up_to_date_and_votes",
            "cluster/test_wiped_node.py::test_it_does_not_elect_who_lacks_what_it_held",
            "cluster/test_wiped_node.py::test_its_acknowledgements_do_not_count_before",
            "cluster/test_wiped_node.py::test_the_leader_is_wiped",
        ),
    ),
    Row(
        "D20",
        "two of three are wiped",
        "nobody leads; a new cluster is made by hand from what is left",
        (
            DIRECTORIES + "d20_two_of_three_wiped",
            "cluster/test_wiped_node.py::test_two_wiped_nodes_do_not_found_a_new_cluster",
        ),
    ),
    Row(
        "D21",
        "a file system that becomes read-only; EROFS, EACCES, EMFILE",
        "exit with a line; clients alone can not take the descriptors away",
        (
            DISKS + "d21_the_file_system_becomes_read_only",
            DISKS + "d21_too_many_clients_for_the_descriptors",
            FAILED + "a_call_fails",
            FAILED + "a_call_fails_at_the_start",
        ),
    ),
    Row(
        "D22",
        "a sparse file of 10 GB, 100,000 segments at the start",
        "memory is bounded, time grows with what is there",
        (DIRECTORIES + "d22_endless_end", DIRECTORIES + "d22_very_many_segments"),
        "Not a million segments: one makes a start 0.7 ms longer, and takes 1 kB.",
    ),
    Row(
        "C1",
        "the wall clock of one node jumps by an hour, by ten years, every 100 ms",
        "no election; log time never goes back",
        (CLOCKS + "c01_wall_clock_jumps",),
        NO_EXPIRY,
    ),
    Row(
        "C2",
        "each node's monotonic clock begins elsewhere",
        "nothing is different",
        (CLOCKS + "c02_monotonic_clocks_begin_elsewhere",),
    ),
    Row(
        "C3",
        "the leader's wall clock is set back by an hour",
        "log time goes on at the pace of time",
        (CLOCKS + "c03_leaders_wall_clock_is_set_back",),
        NO_EXPIRY,
    ),
    Row(
        "C4",
        "the wall clock runs at twice the speed, and at half",
        "no election; log time follows a fast clock, and not a slow one",
        (CLOCKS + "c04_wall_clock_of_another_rate",),
    ),
    Row(
        "C5",
        "the leader is stopped for longer than a key has to live",
        "log time has gone on without it",
        (CLOCKS + "c05_stopped_leader",),
        NO_EXPIRY,
    ),
)
