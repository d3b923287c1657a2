### ingest/bridge.py
94: partition -> when it last got readings
111: -- state ------------------------------------------------------------------------------
164: -- work -------------------------------------------------------------------------------
225: -- from the broker --------------------------------------------------------------------
230: not acknowledged, so the broker keeps it for the next run
239: never in MQTT 5 with QoS 1: there the broker waits
260: -- to the broker ----------------------------------------------------------------------
280: -- to the log -------------------------------------------------------------------------
349: -- time -------------------------------------------------------------------------------
### ingest/bridgehealth.py
102: the clock was set back: the earlier time means nothing
### ingest/childprocess.py
23: linux/prctl.h
34: Isolated and without site-packages: starts in 20 ms, and no module nearby can shadow another.
50: deferred: the script must start fast
71: the parent ended before the request
### ingest/intake.py
135: A bug in kpstream must not stop the pipeline for all devices: quarantine the message.
### ingest/kafka.py
115: The bridge collects messages while it waits, which makes fewer and longer records. One record costs Kafka and the workers more than the messages in it.
125: The records of the last call and their unconfirmed futures: called again with the same records, `append` continues to wait instead of sending them twice.
173: an idempotent producer retries without limit
179: its sequence numbers may be broken permanently
235: It waits for Kafka while records are on the way; after the timeout, just disconnect.
### ingest/mqtt/broker.py
157: Its own session, so that Ctrl-C reaches only us, and we stop the broker in order.
167: Ctrl-C too: no caller has the broker yet to stop it
237: Debian puts it into sbin, which is not on every user's PATH.
251: Started by root, it would switch to a user who may not read the folder.
### ingest/mqtt/connection.py
21: PUBACK of MQTT 5
118: -- state ------------------------------------------------------------------------------
145: -- start and stop ---------------------------------------------------------------------
174: -- requests ---------------------------------------------------------------------------
207: -- the task ---------------------------------------------------------------------------
260: -- callbacks of the socket loop -------------------------------------------------------
### ingest/mqtt/packets.py
75: -- for the owner ----------------------------------------------------------------------
177: -- for paho, like a socket ------------------------------------------------------------
### ingest/mqtt/policy.py
22: CONNACK: 1 in MQTT 3.1.1, 0x84 in MQTT 5 DISCONNECT of MQTT 5
31: connections in a row in a row, before the version is suspected
105: of CONNACK
167: of a second client with our client id
177: -- before the broker answers ----------------------------------------------------------
195: -- while the socket is open -----------------------------------------------------------
264: -- after the socket is closed ---------------------------------------------------------
287: -- decisions --------------------------------------------------------------------------
### ingest/mqtt/socketloop.py
36: read from one socket before other tasks run
73: Not paho's own way, which leaves the socket open when the handshake fails.
118: -- life of a socket -------------------------------------------------------------------
136: A thread cannot be cancelled. Wait (5 s at most), or its socket stays open.
158: the answer to the next CONNECT must be read
160: -- requests ---------------------------------------------------------------------------
165: Retained readings once, not again with every reconnect.
200: -- reading ----------------------------------------------------------------------------
213: what has been read already makes no socket readable
231: A few chunks, then other tasks run; the loop calls again if more is there.
237: finds the end and reports it
263: -- writing ----------------------------------------------------------------------------
274: else it was a DISCONNECT, and paho has closed the socket
288: -- the socket -------------------------------------------------------------------------
322: -- paho's callbacks -------------------------------------------------------------------
383: bounded by Publisher
### ingest/mqttsettings.py
25: $share is a plain name in 3.1.1
### ingest/recordings.py
59: well above any gap_ms, so that a break resets the windows
125: -- C-MAPSS --------------------------------------------------------------------------------
203: -- UCI-HAR --------------------------------------------------------------------------------
251: Windows of one subject must be adjacent in the file, or "next" has no meaning.
308: -- files ----------------------------------------------------------------------------------
368: NASA and UCI pack their zips into a zip
### ingest/replay.py
129: float32 in its shortest decimal form: parsing it as float32 gives the same bits.
191: amqtt drops confirmed messages that it has not forwarded when the publisher leaves.
241: let confirmations be read even if nothing else waits
275: One generator per device name, so that other devices do not change its faults.
### ingest/simulators/emitters.py
34: least RUL of an engine at the start; 30 cycles fill a window
155: label, first and last event time
### ingest/simulators/fleet.py
126: Ages spread evenly over the first part of a life, so that the page shows healthy and worn engines from the start, and the first engine fails after a minute or two.
265: amqtt drops confirmed messages that it has not forwarded when the publisher leaves.
### ingest/simulators/imu.py
100: Placement of the phone on this person: shared by all upright postures (correlation 0.7 to 0.99 of the person means of their gravity), hardly by sitting (0.0 in y, 0.55 in z) and not by laying.
112: Laying: gravity's x, and the angle of the rest in the y-z plane; mean, person sd, bout sd.
127: autocorrelation at one reading: turns last some 1.5 s
237: One draw for all kinds of walking: people who walk fast also climb fast.
331: few distinct lengths, and no short periods
### ingest/simulators/truth.py
42: of an IMU window
251: true and scored label
### ingest/simulators/turbofan.py
58: Least squares over all 20,631 cycles, the hidden h and g taken from per-engine curve fits.
89: Lives are log-normal; log k and the final imbalance rise together (r = 0.83); an engine that starts with more wear starts with less imbalance (r = -0.88). Life is independent of all of them.
99: P15 sometimes reads 21.60 instead of 21.61 in new engines: logistic in wear.
### ingest/sparkplug/data.py
17: of one canonical body: below the limits of `ingest.payloads`
### ingest/sparkplug/decoder.py
71: Twice the messages that may be unacknowledged, and those whose acknowledgement got lost.
107: -- messages ---------------------------------------------------------------------------
126: may be the same bytes each time, and a second one has no effect
176: -- births and deaths ------------------------------------------------------------------
215: The broker noticed the end of an earlier connection late; the node is back.
230: -- data -------------------------------------------------------------------------------
270: -- host -------------------------------------------------------------------------------
290: -- memory -----------------------------------------------------------------------------
### ingest/sparkplug/host.py
19: per node, until its birth called four times a second: 20 nodes a second, not all of them together
82: the clock was set back
### ingest/sparkplug/nodes.py
161: -- changes ----------------------------------------------------------------------------
### ingest/sparkplug/store.py
203: a damaged name matches no row
205: fails for a second bridge on the file
### ingest/sparkplug/wire.py
238: exactly as wide as the datatype
240: the sign extended to 32 bits, or to the width of the field
251: protobuf returns invalid UTF-8 as bytes
### ingest/tls.py
21: time for a server to refuse our certificate after the handshake X509_V_ERR_* of OpenSSL.
26: Parts of OpenSSL's names for alerts of the other side, or for data that is not TLS.
82: because the library's error names no file
180: nothing is sent after the handshake