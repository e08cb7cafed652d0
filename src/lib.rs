//! wavecast: live sound from an ALSA input to every player on the network, uncompressed or as FLAC, MP3 or Opus.
//!
//! This is the library behind the program `wavecast`. Tests and benchmarks reach the parts of the program through it.
//!
//! # The way of a sample
//!
//! ```text
//!  card ─ALSA─▶ capture thread ──▶ ring ─┬─▶ fan-out thread ──▶ sockets of all listeners that keep up
//!               (one per card)           ├─▶ listener thread ─▶ socket   (one for each listener that does not)
//!                    │                   ├─▶ encoder thread ──▶ ring of packets ──▶ fan-out thread, listener threads
//!                    │                   │   (one for each input, codec and bit rate in use)
//!                    │                   ├─▶ push thread ─▶ encoder ─▶ queue ─▶ socket of a server, for many listeners
//!                    │                   └─▶ meter ──▶ events thread ──▶ open pages
//!                    └─▶ events ──▶ main thread: state, log
//! ```
//!
//! [`capture::alsa`] reads a period from the card, [`capture::convert`] turns it into the format of the stream, and
//! the capture thread publishes it into the [ring](media::ring) with its time of capture. [`listeners`] copy it out
//! of the ring and hand it to the kernel.
//!
//! # The way of a request
//!
//! ```text
//!  client ──▶ gate thread ──▶ tiny_http ──▶ worker: router ──▶ handler ─┬─▶ short response ──▶ gate ──▶ client
//!             accept, limits,  parses        access rules               └─▶ the socket leaves the gate: listener,
//!             reads the head                                                subscriber of events
//! ```
//!
//! "Thread per connection" means here: a request that is being answered has a worker, a listener that does not keep up
//! has a thread, and the connections of tiny_http have its threads. Connections that ask for nothing have none, and
//! the listeners that keep up share one.
//!
//! # The rooms
//!
//! ```text
//!  main ─▶ cli, daemon ─┬─▶ http ─────▶ listeners ─▶ encode ─┐
//!                       ├─▶ push ─────▶ encode ───────────────┼─▶ inputs, pushes ─▶ media ─▶ sys
//!                       └─▶ capture ──────────────────────────┘
//!                                                      (config, settings: used by all above media)
//! ```
//!
//! | room | content |
//! |---|---|
//! | [`daemon`] | the main thread: start, signals, reload, state of the inputs, service manager, end |
//! | [`http`] | requests: [gate](http::gate), access rules, endpoints, the responses of each player |
//! | [`listeners`] | clients that listen: fan-out, catching up, slow listeners, pacing |
//! | [`encode`] | FLAC, MP3, Opus: encoders, and the encodings in use |
//! | [`capture`] | cards: opening, reading, converting, silence in place of lost sound, diagnosis |
//! | [`push`] | inputs that are sent to a server, which passes them on |
//! | [`inputs`] | an input that runs: its ring, meter, state and counters |
//! | [`pushes`] | a push that runs: its state and counters |
//! | [`media`] | formats, ring, meter, spectrum, WAV header; no I/O |
//! | [`settings`] | the settings that a reload replaces |
//! | [`config`], [`cli`], `commands` | configuration file and command line; the commands that run no daemon |
//! | [`sys`] | clock, futex, sockets, limits, addresses, log; the only unsafe code |
//! | `src/page` | the page as a browser gets it |
//!
//! Imports run downwards only, and there is no circle between files: `tests/it/structure.rs` reads the `use` lines.
//! Room is left for `record` (beside `http`).
//!
//! # The threads
//!
//! | thread | started by | owns | may block on | may log |
//! |---|---|---|---|---|
//! | main | the program | inputs that run, listening sockets, state | channels; the gate, Avahi, capture threads and pushes that end, each with a deadline | yes |
//! | `signals` | main | signal handlers | signals | no |
//! | `capture NAME` | main, one per card; NAME is its first input | the source while it is open, the rings' writers | its source, a futex until a block is wanted, its opener while the card is away | no |
//! | `open NAME` | main, with `capture NAME` | the source while it is closed or opened, the allocation of the rings | the driver | no, it reports events |
//! | `gate` | main | listening sockets, connections without a running request | `epoll_wait` | no, it has a log thread |
//! | `refusal log` | the first refusal | the queue of log lines about clients | the log | yes |
//! | four of tiny_http | the gate | its connections to the gate | these | debug |
//! | `http 1` to `http 4` | the gate | one request each | nothing slow: a card that opens and a password hash go elsewhere | yes |
//! | `password` | the first hash | requests whose password is hashed | the hash | yes |
//! | `waits for card` | a worker, for at most 3 s | a request for an input that is being opened | a timer | yes |
//! | `fanout NAME` | the first listener of a ring and kind | listeners that keep up | a futex until a block is due | yes |
//! | `mp3 NAME` and so on | a worker, for the first listener of that input, codec and bit rate; ends 10 s after the last | the encoder, the writer of its ring of packets | a futex until a packet can be complete | yes |
//! | `listener` | a worker, the fan-out | one listener that does not keep up or has an encoder of its own | the listener's socket, a futex | yes |
//! | `push NAME` | main, one per push | the connection to a server, an encoder while it is on the air | a futex, polls of its socket: 100 ms at most | yes |
//! | `push name`, `push title` | `push NAME`, now and then | a lookup of a name; a request that sets a title | the resolver; its socket, with deadlines | yes |
//! | `events` | the first open page | the sockets of the open pages | a channel with a deadline | yes |
//!
//! # Locks
//!
//! No thread holds two of the following locks, except that an encoding's state is locked under the list of encodings: the
//! list of inputs, an input's state, an input's ring handle, the list of pushes, a push's state, the settings, the access
//! rules, the digests and tries of passwords, the list of listeners, the running fan-outs, the gate's mailbox, the queue of
//! the refusal log, the subscribers, the mDNS name. Each is held for single operations; nothing is sent, logged or opened
//! meanwhile. The field's comment says who writes and who reads.
//!
//! # Invariants
//!
//! - The capture thread opens, closes and allocates nothing per block, logs nothing, takes no lock that a listener
//!   holds, and makes no system call per block but its source's and at most one wake-up.
//! - From the card to the kernel nothing allocates per block, whatever the number of listeners (`tests/allocations.rs`).
//! - A listener gets every frame in order; frames that are left out are whole, and counted.
//! - Consumers know no card, and `capture` knows no consumer. Only `http` knows HTTP, but for the
//!   chunks of a stream (`listeners`) and the requests of a push. Only `daemon` wires rooms together.
//! - The bytes of a client reach tiny_http only as a checked head without a body.
//! - A panic ends one request, one listener or one round, and gives back what it held.
//!
//! # Where a new … goes
//!
//! | task | file to open first |
//! |---|---|
//! | an input with another rate or device | `config/wavecast.toml`; another kind of source: `src/capture/open.rs` |
//! | the policy for slow listeners | `src/listeners/slow.rs` |
//! | a peculiarity of a player | `src/http/players.rs` |
//! | an encoder | `src/encode/encoder.rs` (the trait), then a variant in `src/encode/codec.rs` and its arm in `src/encode/mod.rs` |
//! | when a push tries again | `src/push/backoff.rs` |
//! | a protocol of pushes | `src/push/session.rs`, beside `icecast.rs` |
//! | an answer of a server that a push does not understand | `src/push/icecast.rs` |
//! | a metric | `src/metrics.rs` (to come); today `src/http/handlers/status.rs` |
//! | an endpoint | `src/http/handlers/`, then an arm in `src/http/target.rs` and `src/http/router.rs`; a new first word of a path is a reserved name in `src/config/parse.rs` |
//! | a trigger of recordings | `src/record/` (a room to come) |
//! | a limit for clients | `src/http/gate/limits.rs`; its key: `src/config/parse.rs` |
//! | an access rule | `src/http/access/mod.rs` |
//! | the delay of *Live* on the page | `src/page/jitter.js` |
//! | a word of the page, or a language | `src/page/words.en.js`, `src/page/words.js`; a new file of the page also stands in `src/http/handlers/page.rs` |
//! | what the page says in which state | `src/page/condition.js` |
//! | the jitter buffer of the page | `src/page/jitter.js` (how far behind to play), `src/page/playout.js` (keeping to that) |
//! | the timeline of the page | `src/page/timeline.js`; its picture: `src/page/timeline_view.js` |
//! | advice for a card that does not open | `src/capture/devices/diagnose.rs`; what `wavecast devices` prints: `src/capture/devices/list.rs` |

#![deny(unsafe_code)]

pub mod capture;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod encode;
pub mod http;
pub mod inputs;
pub mod listeners;
pub mod media;
pub mod push;
pub mod pushes;
pub mod settings;
pub mod sys;
