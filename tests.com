### tests/bench/__main__.py
119: 50 Hz, 10 readings a message: 5 messages/s a device
121: fmt: skip
148: inherited by the gateway from its first instruction
### tests/bench/load.py
71: this process shares its core with others
### tests/bench/siteparts.py
32: ------------------------------------------------------------------- bridge, then workers, by log
136: ------------------------------------------------------------------------------------------ store
148: it has made the topics, and is stopped while they are filled
201: ----------------------------------------------------------------------------------------- a line
303: a few windows of one device: whoever is new is slow
### tests/bench/store.py
77: a topic that was just made may be unknown for a moment
247: One second of the fleet is one micro-batch of the worker, over all partitions.
293: what came while it started
### tests/chaos/ledger.py
249: the supervisor has ended it: it did not answer
### tests/conftest.py
34: The workers share the cores: one thread each, also in child processes. Java compiles once only, because no Kafka of a test runs for long enough to profit from its second compiler.
39: A busy machine is slow, not wrong.
45: Folders whose files start first in a parallel run: those that compute, and those that mostly wait.
48: Files that run whole sites. They run one after the other, and last: several sites at once would starve each other, and these tests have limits on how long a site may take.
186: Imported here because tests/test_required_components.py runs a copy of this file elsewhere.
289: --doctest-ignore-import-errors is meant for packages without their extra. Without this, a file of tests with a broken import would be a skip, and its tests be gone unnoticed.
### tests/contracts/conftest.py
44: optional: the marker has skipped without it
107: a failed test gives no acks: don't wait for them
### tests/contracts/test_log_sqlite.py
62: Faust's own arithmetic commits 4 here: nothing was committed before
69: ... and 9 here: a hole of one
146: it waits for the acks
153: before the stop, too
236: committed, deleted, and room for what waits
293: 0, 1 superseded; also within
### tests/contracts/test_log_transport.py
85: nothing that was acked comes again the tombstone too
136: its stop is as good as a kill
161: its groups take seconds to form again, and the rest was shown
### tests/contracts/test_product_agents.py
76: what the mock broker lacks: topics by request, quick rebalances
### tests/dashboards/alerts/test_rules.py
78: has its own tests
127: ---------------------------------------------------------------------------- what fires, and when
203: the bridge had no broker
### tests/dashboards/grafana/test_sync.py
101: ------------------------------------------------------------- the stand-in and a real Grafana
192: ------------------------------------------------------------------------------ only the stand-in
### tests/dashboards/queries/test_queries.py
128: fmt: skip
210: ------------------------------------------------------------------------------ values of queries
### tests/dashboards/simulated_site.py
123: the same student again, as version 2
125: a version with a damaged file
170: partition 0 stalls for 20 s of each minute
### tests/deploy/commands/test_deadletters.py
129: Refused again under the same id: no second letter.
### tests/deploy/commands/test_models.py
84: windows that are open belong to the old student
### tests/deploy/commands/test_sitehours.py
22: 2023-11-14T22:00
### tests/deploy/doctor/test_command.py
79: a thread that still waits is let go
122: -- broker -------------------------------------------------------------------------------------
168: -- files --------------------------------------------------------------------------------------
247: -- services -----------------------------------------------------------------------------------
310: -- machine ------------------------------------------------------------------------------------
360: -- the command --------------------------------------------------------------------------------
### tests/deploy/processes/test_gateway.py
32: scores `engine`
### tests/deploy/processes/test_partitionwatch.py
129: frozen
### tests/deploy/stack/test_acl.py
172: it has a session now, and is away
188: one after the other: a device has one connection
215: a broker may refuse such a connection altogether
231: the will was retained
### tests/deploy/stack/test_certs.py
63: what Python 3.13 asks for by default
152: its node is a client of its controller
167: the 1: Kafka's keystore
### tests/deploy/stack/test_install.py
91: nothing is needed for what is there
### tests/deploy/stack/test_servers.py
48: a paused one can be stopped all the same
91: nothing is made twice
159: half a copy can't be run
213: hung up, or a TLS alert
233: no CONNACK
### tests/deploy/stack/test_site.py
216: as every process is told
230: where mosquitto takes services only
260: the second time finds all in place
### tests/deploy/stack/test_units.py
36: Where the node lives: it differs between the machine, systemd and a container, and must.
126: package and image log where and what they like
152: the default in the container too
226: Not installed here; known since systemd 254.
### tests/deploy/supervisor/test_supervisor.py
38: Tells on the way up and down, in one file for all, and says it is ready by a file of its own.
179: The pauses before the second to the sixth restart; what comes on top is the start itself.
189: otherwise the pauses alone are longer than this test may take
303: the program runs, not only its interpreter
309: it was woken, and asked first
413: nothing but text, no hole of zeros
### tests/deploy/test_cli.py
100: tests may be root
### tests/docs/figures.py
37: 121,200 and 289 258 11.73, but no version and no address 90 %
### tests/docs/test_commands.py
18: names what was
### tests/docs/test_excerpts.py
27: what was left out
### tests/e2e/devices.py
66: what ends the thread, whatever is unconfirmed
111: What is unconfirmed overtakes what is sent again: so it must never be much.
130: Forget only what this connection, which still stands, carried a while ago.
143: this connection may break as well
### tests/e2e/site_plant.py
237: -- what reached InfluxDB ----------------------------------------------------------------
### tests/e2e/states/make_state.py
107: a checkpoint
### tests/e2e/test_conditions.py
31: 1e-5 of the range: windows are scored in batches of another size
92: the interval follows the score
### tests/e2e/test_demo.py
37: broker, gateway, fleet
52: broker, gateway, fleet: while it starts, and when it runs
### tests/e2e/test_garbage.py
30: (topic, payload, reason): every kind the issue names, and some more
46: A healthy device's own topic is no way to disturb it either.
70: these keep the readings, re-encoded
### tests/e2e/test_gateway_influx.py
93: The tasks' own Flux, for the hour that still runs: they would wait for its end.
### tests/e2e/test_ledger.py
32: A device sends the last seconds again after a broker died: the lateness must cover that.
47: Copies older than the windower's memory count as late: never more than were sent.
100: nothing has been scored yet
### tests/e2e/test_page.py
121: the choice is kept over a reload
### tests/e2e/test_quiet_line.py
62: What InfluxDB has not got is still in the log for the next start.
### tests/e2e/test_site_outages.py
46: InfluxDB is away: the store says so, scoring does not notice.
56: Kafka is away: everybody waits and says so, nobody ends; the bridge may even be killed.
72: Processes die: the next life goes on where the last one had confirmed.
### tests/e2e/test_site_rebalance.py
42: Messages come up to a second out of order, and wait for the broker's client meanwhile.
76: more than its session has passed
### tests/e2e/test_site_stream.py
81: both have worked
### tests/e2e/test_sparkplug.py
82: a name of ours for "Plant 7"
### tests/e2e/test_store_faults.py
102: Counted once all are confirmed: a write that is cancelled may be in Kafka or not.
### tests/e2e/test_stream_equals_offline.py
124: After a kill the broker sends a long backlog again: a copy of a reading that is older than the windower's memory counts as late. Every reading was windowed all the same.
### tests/e2e/test_tls.py
40: it has a certificate, and is switched off
141: 3.1.1 has no word for it
### tests/e2e/test_way_of_a_reading.py
115: the first message warms all caches
### tests/fakes/browser.py
109: or only the hash may change
### tests/fakes/grafana.py
35: fmt: skip
84: ---------------------------------------------------------------------------------- routing
124: ----------------------------------------------------------------------------------- boards
205: Grafana hides the message here
227: ---------------------------------------------------------------------------------- folders
265: ----------------------------------------------------------------------------- data sources
331: ------------------------------------------------------------------------------------ rules
385: the client has timed out
### tests/fakes/grafana_checks.py
12: fmt: skip
18: fmt: skip
22: fmt: skip
26: fmt: skip
31: fmt: skip
### tests/fakes/influx.py
102: the client gave up waiting
### tests/fakes/log.py
24: cleared: appends hang
### tests/fakes/sharedserver.py
84: it outlives this worker: no warning about a child that still runs
### tests/fakes/sparkplugnode.py
89: unique over the whole node
### tests/fuzz/test_log_file.py
89: Where: a page, and a place in it. Headers and the cells at the end of a page are the tender parts.
101: an empty file is a new log
126: it says so, and has changed nothing
### tests/fuzz/test_messages.py
160: And the two of the birth and of the message before the bad ones.
199: never a wrong value
### tests/fuzz/test_models.py
148: as the message says
### tests/fuzz/test_packets.py
59: What paho gets is part of the stream, byte by byte.
66: a message without a topic a topic that ends beyond the packet QoS 2 a PUBACK of half a packet id a SUBACK without anything a CONNACK of one byte a DISCONNECT whose properties have no end a length without an end AUTH a CONNECT, from a broker
92: nonsense is passed over, waits for more bytes, or ends the connection
96: as a broker does that hears nothing of us
98: what is not acknowledged comes again
### tests/ingest/bridge_process.py
33: durable, not yet acknowledged: the worst moment to be killed
### tests/ingest/mqtt/test_broker.py
149: servers of other tests
### tests/ingest/mqtt/test_connection.py
47: ... and back, should the broker be replaced.
95: longer than the longest back-off: that is no recovery
108: alone again
124: 192.0.2.0/24 is reserved for documentation: nobody answers.
### tests/ingest/mqtt/test_packets.py
16: MQTT 5 user property "a\ufeff" = "b", which paho refuses to parse
110: no room for a topic the topic ends beyond the packet no property length properties end beyond the packet QoS 2
### tests/ingest/mqtt/test_policy.py
201: does not clear it
### tests/ingest/simulators/test_simulators.py
34: Smallest and largest value of each varying sensor in the 20,631 training rows of FD001.
54: -- turbofan ------------------------------------------------------------------------------------
77: Extremes of as many draws scatter by some of the width; the bulk must lie inside.
123: -- people --------------------------------------------------------------------------------------
163: the kinds of walking need their waveform
184: two steps a stride: steps are the strongest
200: -- fleet ---------------------------------------------------------------------------------------
266: worn and healthy ones side by side
362: -- truth ---------------------------------------------------------------------------------------
385: truth 200, capped: right truth 100
390: over the change
411: -- with the starter students -------------------------------------------------------------------
### tests/ingest/sparkplug/test_decoder.py
145: while it was offline
201: beyond 255
204: lost
212: What carries all it needs is taken meanwhile, and what is told again is known again.
222: lost
303: An unusable value is nobody's present value; what stays usable is taken.
352: sequence number 256
385: somebody says that we are gone
425: delivered again
445: taken, and lost with the process
### tests/ingest/sparkplug/test_store_crash.py
48: all that is not acknowledged comes again
65: any part of an append may be there
75: and any part of the acknowledgements
102: lost
137: A reading that is there twice says the same both times.
### tests/ingest/sparkplug/test_wire.py
14: Written by code generated from the definition that the specification prints (protobuf 7.36).
### tests/ingest/test_bridge.py
51: as in Kafka, before the writer is connected
122: in the order of arrival
147: what a request has around it
157: and forward again, as after a stall
184: clean start is off, also for the first connect session expiry interval receive maximum
200: After a reconnect packet id 1 may mean another message: it must not be confirmed by the append of the old one.
288: two faults: either is right
331: too late: it stays with the broker
370: Saturated: the broker may hold messages back, so silence means nothing.
378: The process (or the machine) was held up.
### tests/ingest/test_bridge_decoder.py
100: of the next load, not of this checkpoint
122: one of its bodies is none
150: a will, QoS 1, retained
156: on the way while we say it
### tests/ingest/test_bridge_embedded.py
30: auto: it ignores MQTT 5
39: Stay until it has arrived: on Python 3.12 and later amqtt drops what it has confirmed when the publisher leaves.
### tests/ingest/test_bridge_mosquitto.py
77: Nothing is kept for a bridge that has never been there.
124: The bridge goes on reading: the broker is the one that waits, and the line stays alive.
183: Messages, but nothing that paho itself reads: only its pings keep it convinced.
### tests/ingest/test_bridge_shared.py
97: a part of them waits for bridge-2
106: nothing was kept for it
137: wait in its session, by the old subscription
241: a dead letter waits for nothing
### tests/ingest/test_childprocess.py
30: somebody else's
46: Under nohup, children inherit that SIGHUP is ignored.
### tests/ingest/test_kafka_server.py
136: as the bridge does: the same again
### tests/ingest/test_messages.py
235: Bundles ----------------------------------------------------------------------------------------
316: Batches ----------------------------------------------------------------------------------------
### tests/ingest/test_topics.py
66: from Kafka's own UtilsTest.testMurmur2
### tests/models/test_artifact.py
112: sparse
### tests/models/test_onnxfile.py
62: protobuf cuts it to 1
113: a group, which ONNX never had
127: model_version, again and again
### tests/models/test_registry.py
276: the moment of the kill, not a wait for something
### tests/models/test_session.py
41: so that no length in front changes
247: a flipped bit of a weight is another student
### tests/models/test_zoo.py
56: near the end of life it is surer
60: 362 test windows at the wrist
### tests/pipeline/console/test_queries.py
124: value and end of each run
### tests/pipeline/log/test_backpressure.py
58: Faust's own takes a second
### tests/pipeline/log/test_changelog.py
31: so many more sends, then the owner is dead
113: the row, and not what deletes its predecessor
### tests/pipeline/log/test_kafka_sizes.py
43: the bridge takes it
86: numbers that are written longer than they came
88: readings that all wait for the watermark
109: and another one can read it
### tests/pipeline/log/test_kafkatransport.py
159: a crashed consumer leaves its connection open: not for a later test to report
202: nobody tells where it begins
241: its sink is away, say
### tests/pipeline/log/test_locallog.py
86: group commit
118: a second call would fail the future
### tests/pipeline/log/test_repair.py
29: in use
42: no reader may wait for a lost last change
### tests/pipeline/log/test_retention.py
43: the last record stays, also as a tombstone: recovery waits for it
63: store has read nothing
70: the others are young does not read it any more
89: nobody reads these: limits alone count
126: the drain may
128: under pressure read records go before their time
148: three times the cap
162: the oldest first, whichever partition
181: `results` has read ten of each partition, `away` none
189: below the share they pin as all do
### tests/pipeline/log/test_writer.py
75: an append is all or nothing
### tests/pipeline/points/test_lines.py
24: the first example imports the client
### tests/pipeline/points/test_scorelines.py
56: beyond 64 bits, or no Unicode
65: What is a line all the same has a number of more than 64 bits: InfluxDB refuses that.
76: a line, which InfluxDB refuses
78: null in JSON: no interval
### tests/pipeline/points/test_scores.py
127: JSON's null, which stands for "no interval"
### tests/pipeline/scoring/test_batch.py
142: fmt: skip
### tests/pipeline/scoring/test_rollover.py
177: tried again, said once
### tests/pipeline/scoring/test_stage.py
164: long enough for several checkpoints, had there been any
228: the checkpoint waits for the log, so the stage takes no more
258: no hurry any more
### tests/pipeline/status/test_progress.py
35: idle for long backlog begins now
38: read on committed on
### tests/pipeline/stores/test_influx_real.py
280: runs from the first write on that is confirmed, however slow the machine
### tests/pipeline/stores/test_influxsetup.py
190: Between the end of a run and its entry in the history there is no such run.
### tests/pipeline/stores/test_resultsfile.py
153: a batch is there or not
190: a data set recorded years ago, replayed today
193: of "live"; the first write dealt with "old"
205: and may come back
283: which would be tried again for ever
285: what a restart does
321: printed, not asserted on
### tests/pipeline/windows/test_devices.py
185: refused: no student
### tests/pipeline/windows/test_windower_properties.py
19: a busy machine is slow, not wrong
64: again, with another value: the first one counts
93: not idle: changes nothing
### tests/test_import_rule.py
25: package -> what of ours it may import, beside itself; a module stands for what is below it too.
44: module of a third party -> the files of the gateway's packages that may import it.
56: protobuf
59: The files of the log and the results file; the transport only reads SQLite's version.
61: what the bridge knows of Sparkplug nodes: a file of its own
209: A heavy package that is not even installed here would be noticed by the attempt to find it.
### tests/test_made_up_task.py
77: length 4, hop 1
### tests/test_public_names.py
37: a guide page that offers no names of its own
69: a package may name its modules
### tests/test_required_components.py
47: Whether torch is installed where this runs must not matter.
68: A skip in the setup counts as an error there, one in the body as a failure.
### tests/test_task_rule.py
19: The files of a task: itself, its card, its board, its data sets.
53: A | B
### tests/training/bench/test_openvocab.py
84: 0: one of two; 1: both
86: beyond the nearest seen label: -3, 1, -1, -1 against 1, -1
95: Margins of the held-out: -1 to -0.1; a tenth of them lies above -0.19, and so do two of these.
100: With no alarm allowed, only what lies beyond all of the held-out.
### tests/training/datasets/test_activity_datasets.py
86: 600 readings: windows from 0, 128, 256; the label changes at reading 380.
92: one window in each run of 300
108: two runs of 20 readings, two windows each
### tests/training/datasets/test_benchmarks.py
38: 200 hours, the pause counts as one more: windows of 30 end at hours 30 to 201.
42: Relative to its own first day: about 1 at the beginning.
76: The newest reading says its cycle: what is left follows from it.
88: a tenth of 32 windows each
### tests/training/export/test_artifact.py
87: one output shape is enough
### tests/training/methods/test_committee.py
20: an untrained member may score zero for every window
### tests/training/methods/test_knowledge_pruning.py
47: KL of uniform similarities to the target: only the target's entropy is left besides log N.
### tests/training/starters/test_zoo_build.py
57: training reads no test set
97: The made-up activities are far apart; that is all the distance needs.
### tests/training/students/test_encoders.py
64: mean and slope of 5, 10, 20, 30 readings
67: Slopes are per half a tail: a line of 2 per reading rises by n - 1 over half of n readings.
### tests/training/teachers/test_anchors.py
81: transformers and huggingface_hub
86: Alone or in a batch, on this machine or another: the same to the seventh digit or so.
### tests/training/teachers/test_ensemble.py
27: Labels of one person cannot change the scores of that person.
### tests/training/test_augment.py
21: One turn per window: the angle between two triples of a window stays.
### tests/training/test_candidate.py
157: too far from what was learned
159: nothing is far for one that learned from all
### tests/training/test_distill.py
137: The activity's graph holds the temperature, which is calibrated on held-out labels.
### tests/training/test_evaluate.py
63: Engines differ by far more than the students do: unpaired, nothing could be seen.
### tests/training/test_redistill.py
58: The starter knows real engines, not the dummies: anything trained on them is better.
### tests/training/uncertainty/test_calibration.py
47: twenty engines can promise 0.9 only by giving more
127: Half of the weight is the second person's: a fifth of their windows is below.
### tests/training/uncertainty/test_out_of_distribution.py
22: class 2 does not occur