//! Everything that is tested of nodes of one executor, once more with nodes of several: what clients see is the same.

use super::member::with_fronts;

macro_rules! with_fronts {
    ($($name:ident of $module:ident $configs:expr => $($test:ident)*;)*) => {
        $(mod $name {
            $(#[test]
            fn $test() {
                for (fronts, seed) in $configs {
                    super::with_fronts(fronts, seed, super::super::$module::$test);
                }
            })*
        })*
    };
}

with_fronts! {
    bad_input of bad_input [(3, 2)] =>
        p01_a_negative_length_ends_the_connection
        p02_a_length_above_the_limit_ends_the_connection_and_one_at_it_is_served
        p03_an_empty_frame_ends_the_connection
        p04_a_long_frame_that_is_announced_and_does_not_come_ends_with_the_patience
        p05_bytes_one_by_one_don_t_keep_a_session_alive
        p06_half_a_frame_and_the_end_leaves_the_session_to_its_timeout
        p07_half_a_frame_behind_a_whole_one_and_a_reset_leaves_the_whole_one
        p08_a_half_open_peer_has_its_session_until_the_timeout
        p09_a_tls_hello_ends_the_connection
        p11_an_http_request_ends_the_connection
        p12_who_connects_and_says_nothing_is_closed_after_a_while
        p13_unreasonable_lengths_of_strings_and_buffers_are_refused
        p14_null_is_refused_as_a_path_and_is_data_of_its_own_kind
        p15_a_count_beyond_the_record_is_refused_before_it_is_allocated
        p16_a_negative_count_is_an_empty_list
        p17_a_multi_of_as_many_parts_as_a_frame_holds_is_one_answer
        p18_a_multi_of_what_it_may_not_have_is_unreadable_as_a_whole
        p19_bytes_behind_a_request_are_ignored
        p20_characters_that_no_path_may_have_are_refused
        p21_malformed_long_and_deep_paths
        p21_a_deep_tree_is_made_watched_and_torn_down
        p22_a_sequential_name_may_be_nothing_but_its_number
        p24_kinds_of_nodes_that_there_are_none_of_are_refused
        p25_unknown_operations_are_answered_in_order_and_the_connection_stays
        p26_a_goodbye_before_the_session_ends_the_connection
        p27_a_second_connect_request_changes_nothing
        p28_a_request_before_the_connect_request_ends_the_connection
        p29_a_connect_request_without_the_flag_gets_none_back
        p30_any_protocol_version_is_taken
        p31_timeouts_are_brought_into_bounds
        p32_who_has_seen_more_than_there_is_is_closed_without_an_answer
        p33_a_wrong_password_never_disturbs_the_owner
        p34_a_password_computed_from_the_sessions_id_is_refused
        p35_a_session_asked_for_on_two_nodes_at_once_has_one_connection
        p36_a_session_that_was_closed_or_has_expired_is_refused_anywhere
        p37_numbers_that_repeat_decrease_or_mean_something_else_are_echoed
        p38_numbers_wrap
        p39_proofs_that_are_none_too_long_or_too_many_end_the_connection
        p40_sasl_in_any_order_is_answered_with_nothing
        p41_p42_what_nothing_proves_opens_nothing
        p44_a_digest_is_shown_to_nobody_but_who_may_change_it
        p45_no_kind_of_watch_and_no_read_shows_what_may_not_be_read
        p48_secrets_are_in_no_text_and_in_no_record
        p49_words_that_are_none_in_the_wrong_case_or_costly_are_not_answered
        p50_watches_set_again_in_many_packets_are_all_set_or_told
        p51_watches_have_a_bound_and_who_goes_past_it_loses_his_own_only
        p52_a_list_of_children_longer_than_a_frame_is_answered_in_one
        p53_who_never_reads_costs_a_bounded_number_of_bytes
        p54_a_million_requests_of_who_does_not_read_are_not_all_taken_in
        p55_connections_beyond_the_limits_are_closed_and_the_places_come_back
        p55_a_storm_of_connections_and_sessions_leaves_nothing
        p56_lists_that_are_empty_or_name_nobody_are_refused
        p56_unknown_permission_bits_permit_nothing
        p56_a_list_of_as_many_entries_as_fit_is_taken_or_refused_as_a_whole
        p56_versions_must_match_and_only_minus_one_is_any
        p56_data_at_the_limit_is_taken_and_read_back_and_a_byte_more_is_not
        p56_settings_out_of_bounds_do_no_harm;
    chaos of chaos [(3, 2)] =>
        promises_hold_whatever_happens_again;
    fifo of fifo [(1, 1), (3, 2)] =>
        a_thousand_mixed_requests_in_one_turn_are_answered_in_order
        a_ping_is_answered_while_a_write_is_stuck
        a_read_behind_a_write_carries_the_writes_zxid_though_more_is_committed_at_once
        a_read_that_waits_for_nothing_sees_the_state_before_a_write_sent_with_it
        sync_then_read_sees_what_another_node_has_acknowledged
        a_sync_does_not_hold_up_the_write_behind_it
        a_write_does_not_overtake_one_that_waits_for_room
        writes_of_many_sessions_share_a_turns_batch_and_keep_their_outcomes;
    held of held [(1, 1), (3, 2)] =>
        reads_that_others_make_longer_are_answered_at_a_bounded_cost
        alternating_long_reads_and_writes_are_all_answered
        a_write_is_held_while_the_answers_before_it_are_long
        short_reads_before_writes_are_many_but_counted
        who_never_takes_an_answer_costs_little_and_is_closed
        a_session_lives_as_long_as_its_client_takes_answers;
    multi_of_one of multi [(1, 1)] =>
        a_multi_read_of_too_many_is_refused_and_many_of_many_are_answered_over_turns;
    again_of_one of again [(1, 1)] =>
        those_who_set_many_again_get_on_side_by_side;
    again of again [(1, 1), (3, 2)] =>
        a_frame_of_many_is_worked_off_over_turns_and_others_are_answered
        a_long_frame_that_is_broken_at_its_end_is_refused_as_a_whole
        it_has_its_place_among_the_writes_of_its_connection
        it_waits_for_a_client_that_does_not_take_its_events
        it_ends_with_its_connection
        persistent_ones_are_set_in_steps_too;
    steps_of_one of steps [(1, 1)] =>
        watches_that_many_set_again_at_once_are_set_over_turns
        who_asks_for_little_does_not_wait_for_those_who_set_many_watches;
    limits_of_one of limits [(1, 1)] =>
        when_all_together_have_too_much_pending_those_with_most_are_paused;
    steps of steps [(1, 1), (3, 2)] =>
        connections_are_looked_at_in_steps_and_all_that_were_heard_are_touched
        who_was_silent_for_long_is_touched_at_once_and_alone
        a_crowd_is_told_in_steps_and_everybody_once
        who_reads_meanwhile_is_told_first_and_of_all_in_order
        who_comes_in_the_place_of_one_who_has_gone_hears_nothing_of_his
        a_long_list_comes_in_pieces_and_others_are_answered_in_between
        a_long_list_is_exact_and_what_follows_it_comes_behind_it
        a_long_list_waits_for_its_client_and_the_goodbye_for_the_list
        a_long_list_ends_with_its_connection_when_the_node_begins_anew
        many_ephemerals_are_told_in_pieces_and_others_are_answered_in_between
        many_ephemerals_are_told_as_of_when_they_were_asked_for
        many_ephemerals_are_told_though_their_session_ends
        lists_before_writes_in_the_logs_hands_are_as_of_before_them;
    limits of limits [(1, 1), (3, 2)] =>
        connections_beyond_the_limit_per_address_are_closed_at_once
        a_session_with_too_much_pending_is_paused_and_resumed_at_half
        who_goes_on_sending_while_paused_is_closed_in_the_end
        long_answers_are_spread_over_turns
        reads_wait_while_their_client_takes_its_answers_too_slowly
        who_always_has_writes_waiting_leaves_room_for_others
        a_write_that_fits_no_record_is_refused_in_order
        create_flags_beyond_the_known_ones_are_told_apart
        operations_that_are_not_served_are_answered_and_the_connection_lives;
    sessions of sessions [(1, 1), (3, 2)] =>
        timeouts_are_clamped_and_returned
        an_old_client_that_sends_no_flag_gets_none
        requests_sent_without_waiting_for_the_session_are_served_once_it_is_there
        a_wrong_password_is_refused_and_does_not_disturb_the_owner
        a_session_resumed_on_the_same_node_leaves_its_old_connection
        what_the_old_connection_wrote_after_the_move_does_nothing
        what_was_logged_before_the_move_counts
        a_closed_session_takes_its_ephemerals_along_and_can_not_be_resumed
        a_client_that_has_seen_more_waits_for_the_node_to_catch_up_or_is_closed
        a_node_that_has_not_caught_up_lets_handshakes_wait_but_not_for_ever
        a_connection_that_says_nothing_is_closed
        pings_keep_a_session_and_silence_ends_it_within_its_timeout_and_a_tick
        a_client_that_speaks_just_before_its_timeout_is_answered_on
        a_session_whose_connection_broke_lives_on_until_its_timeout
        a_dead_nodes_sessions_are_expired_by_another_after_a_touch_interval_more
        a_standstill_of_the_log_expires_no_session
        a_request_that_makes_no_progress_costs_the_connection_before_its_timeout
        a_node_that_is_cut_off_stops_answering_before_another_expires_the_session
        a_session_heard_after_a_silence_is_not_answered_longer_than_the_log_vouches_for_it
        a_node_that_was_frozen_does_not_answer_what_waited_meanwhile
        an_expiry_that_races_with_a_touch_does_nothing
        an_idle_service_without_sessions_writes_nothing
        a_restarted_node_replays_to_the_same_state;
    snapshots of snapshots [(1, 1), (3, 2)] =>
        a_node_that_starts_from_a_snapshot_is_the_same_as_one_that_has_applied_everything
        sessions_that_a_snapshot_holds_live_on_or_expire
        the_log_is_let_go_before_the_second_newest_good_snapshot
        one_is_taken_at_a_time_and_the_next_after_as_many_records_and_bytes
        many_bytes_make_a_snapshot_due_as_well_and_zeros_none
        a_failure_is_told_and_not_repeated_for_a_minute
        a_gap_in_the_log_ends_the_node_and_names_the_cure;
    behind of behind [(1, 1), (3, 2)] =>
        an_empty_node_whose_log_is_trimmed_begins_with_anothers_snapshot
        a_node_that_falls_behind_leaves_its_clients_and_goes_on_from_anothers_snapshot
        what_it_had_in_the_logs_hands_counts_and_is_answered_to_nobody
        a_snapshot_that_it_was_taking_is_given_up
        without_an_offer_it_waits_and_serves_nobody
        a_disk_that_does_not_take_it_is_tried_again
        a_node_told_to_rebuild_drops_its_own_and_gets_anothers
        a_node_told_to_rebuild_plays_a_log_that_is_whole
        an_empty_node_gets_anothers_snapshot_rather_than_play_a_long_log
        a_node_with_an_old_state_gets_anothers_snapshot_and_keeps_its_own_until_then
        a_node_that_could_play_the_log_does_so_when_its_disk_takes_no_snapshot_of_anothers
        what_it_has_is_offered;
    watches of watches [(1, 1), (3, 2)] =>
        an_own_writes_event_comes_before_its_reply_with_the_same_zxid
        a_watcher_elsewhere_sees_the_event_before_the_newer_data
        a_watch_set_behind_a_write_fires_for_the_next_one_only
        deletion_is_told_once_and_before_the_parents_event
        a_watch_on_a_missing_node_is_left_by_exists_alone
        set_watches_tells_what_was_missed_and_watches_on_for_the_rest
        watches_end_with_their_connection
        who_sets_more_watches_than_the_node_holds_is_closed;
    words of words [(1, 1), (3, 2)] =>
        health_words_have_no_newline
        one_node_is_called_the_leader_and_counts_the_others
        monitor_lines_are_keys_and_values_that_add_up
        stages_count_requests_until_they_are_counted_anew
        the_server_text_has_the_lines_that_parsers_count_on
        every_word_has_the_shape_of_the_original
        what_is_reset_is_counted_anew
        words_that_are_not_in_the_whitelist_are_refused
        lists_of_watches_are_cut_off_where_they_would_take_too_long
        a_node_that_has_not_caught_up_says_so
        a_connection_that_is_closed_is_noted_with_its_reason;
    read_only of read_only [(1, 1), (3, 2)] =>
        a_node_that_is_cut_off_serves_reads_to_who_takes_that_and_nobody_else
        a_read_only_session_ends_before_anything_more_is_seen
        a_new_session_of_a_node_that_is_cut_off_is_unknown_to_the_others
        who_has_seen_more_or_is_unknown_there_is_not_served
        a_node_that_starts_without_the_log_serves_what_it_has_once_it_waited
        a_node_that_has_nothing_yet_shows_nothing
        a_read_only_session_lasts_as_long_as_its_client_is_heard
        requests_sent_without_waiting_are_answered_in_order
        a_node_that_is_not_set_to_serves_nobody_while_it_is_cut_off;
    acl of acl [(1, 1), (3, 2)] =>
        every_operation_needs_its_permission_whoever_asks
        what_counts_first_is_told
        a_list_is_shown_whole_only_to_who_may_change_it
        a_proof_counts_for_what_comes_behind_it
        proofs_last_as_long_as_their_connection
        a_proof_that_is_none_ends_the_connection_in_its_turn
        who_proves_the_super_digest_may_do_everything
        with_acls_skipped_they_are_kept_and_do_not_count
        an_address_is_that_of_the_sessions_connection
        events_reach_only_who_may_read
        who_one_is_is_told;
    lives of lives [(1, 1), (3, 2)] =>
        a_container_goes_after_its_last_child_and_not_before_its_first
        a_time_to_live_starts_anew_when_data_is_set_and_waits_for_children
        many_go_at_the_pace_that_was_set
        without_anything_to_sweep_no_timer_runs
        times_to_live_are_bounded_and_can_be_switched_off
        hard_quotas_are_enforced_where_that_is_wanted_and_soft_ones_told
        a_service_of_older_rules_is_raised_once;
    multi of multi [(1, 1), (3, 2)] =>
        a_reply_has_its_golden_bytes
        each_kind_is_answered_by_its_own
        whichever_part_fails_nothing_is_done_and_nobody_hears_of_it
        events_come_in_the_order_of_the_parts_and_before_the_reply
        what_could_be_refused_at_once_still_comes_behind_what_fails_before_it
        a_multi_read_answers_each_part_by_itself_and_leaves_its_watches
        a_multi_read_of_too_much_is_refused
        ephemerals_of_a_multi_belong_to_its_session;
    standing of standing [(1, 1), (3, 2)] =>
        persistent_watches_stay_and_tell_each_change_once
        each_kind_is_found_and_removed_by_its_number
        after_a_reconnect_they_are_set_again_and_tell_nothing_of_the_time_between
        persistent_watches_count_against_the_limit
        own_ephemerals_are_listed_by_prefix_and_descendants_counted;
    fifo_models of fifo [(3, 2)] =>
        replies_are_those_of_a_sequential_server_again;
    held_models of held [(3, 2)] =>
        slow_takers_get_everything_at_a_bounded_cost_again;
    limits_models of limits [(3, 2)] =>
        any_frames_cost_their_own_connection_at_most_again;
}
