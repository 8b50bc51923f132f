//! Tests with real processes: nodes of the program as it ships, on free ports of 127.0.0.1, each
//! in a folder of its own, killed, paused and damaged while clients write.
//!
//! They run one at a time (they share the machine and take its whole attention), and they end only
//! processes that they started. `AMRITA_E2E_KILLS` says how many kills the big one makes.

mod ambrosia;
mod ambrosia_door;
mod ambrosia_registered;
mod at_rest;
mod backups;
mod bad_days;
mod bad_input;
mod batches;
mod bridge;
mod changes;
mod cluster;
mod explained;
mod forgotten;
mod full_disk;
mod held;
mod hidden;
mod history;
mod http;
mod immortals;
mod immortals_flags;
mod immortals_input;
mod kills;
mod kinds;
mod members;
mod native;
mod outside;
mod own_ca;
mod owned;
mod pauses;
mod power;
mod programs;
mod queries_guide;
mod quorum;
mod security;
mod sessions;
mod strict;
mod subscriptions;
mod surface;
mod time_travel;
mod tls;
mod trail;
mod waiting;
mod xenon_tutorials;
