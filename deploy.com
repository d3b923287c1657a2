### deploy/cli.py
12: Command -> (module, attribute, line of text in the overview)
57: Command -> extra that it needs, if that is not [gateway]
### deploy/commands/dashboards.py
21: `diff` exits with 1 when it has found a difference
### deploy/commands/deadletters.py
42: -- commands -------------------------------------------------------------------------------
301: As Text: rich markup and terminal escapes in a message are shown and not executed.
### deploy/commands/demo.py
134: the first signal is being handled
137: a shell may have disabled it
139: nohup
202: another program has taken the port meanwhile
215: The protocol of this broker is known, so the bridge need not detect it.
374: In sessions of their own, the children do not get Ctrl-C from the terminal. This process stops them in an order that loses nothing.
### deploy/commands/models.py
135: no gateway runs it
### deploy/commands/site.py
21: as with systemd
### deploy/commands/siteup.py
73: a second Ctrl-C
### deploy/doctor/command.py
104: a broken check must not hide the findings of the others
### deploy/doctor/mqttprobe.py
69: if already refused, the answer contains the reason
100: 0x02: clean session
### deploy/doctor/pipelinechecks.py
104: only the log's files handle SQLite's errors
217: An empty write stores nothing. Both 204, and 400 for the empty body, prove write access.
261: Ignore the machine's proxy, because the console is local.
### deploy/processes/bridging.py
50: protobuf, which few gateways need
### deploy/processes/gateway.py
48: every reader here is at the tail, and memory is scarce
120: spawned first, so its reason is reported first
165: the other parts still have to stop
197: A long outage of InfluxDB loses scores before the log is full, so scoring never waits.
236: heavy, and rarely needed
### deploy/processes/lifecycle.py
26: malloc.h
101: the second signal; unacknowledged messages are not lost
149: another C library, which has no such setting
### deploy/processes/runtime.py
130: whatever Kafka's client raises
140: the other parts still have to stop
### deploy/settings/errors.py
52: malformed JSON, found before validation
### deploy/stack/certs.py
67: for clients with a slow clock ub-common-name of RFC 5280
223: a node is also a client of the controller
341: the process was killed between writing the two files
347: a certificate for a few days is not old at once
### deploy/stack/composefile.py
177: Each service sees only its own secrets: Grafana its token, the store the folder.
221: this user may read the token
### deploy/stack/install.py
33: go.mod of InfluxDB 2.7.12 rust-version of libflux
135: any current toolchain works
141: Without the feature `strict`, with which a current rustc fails.
163: Go's cache ignores the output of pkg-config. Without this flag, which differs for each build, it would link against the work folder of an earlier build.
192: -------------------------------------------------------------------------------- requirements
230: --------------------------------------------------------------------------------- work folder
271: so that its children can be killed with it
### deploy/stack/mosquitto.py
24: 3.1.1, clean, no keepalive, no id
137: mosquitto warns if other users can read it
### deploy/stack/process.py
83: Defined by each server.
101: The same for all servers.
140: In its own session, Ctrl-C in the terminal reaches only us, and we stop it in order.
151: Ctrl-C too: the caller cannot stop the server yet
### deploy/stack/servers.py
46: A misspelt topic is an error, not a new topic with one partition.
59: A group that returns sooner than this resumes at its committed offsets.
61: Sized for 256 MB of heap: the cleaner's default buffer alone is 128 MB.
65: After SIGKILL the node waits until its old session has timed out, seconds without a log.
74: -------------------------------------------------------------------------- installed servers
114: ---------------------------------------------------------------------------------------- Kafka
197: "=", since the id may begin with "-".
223: key, version, correlation, no client id
258: ------------------------------------------------------------------------------------- InfluxDB
272: influxd handles SIGINT only; SIGTERM ends it at once.
### deploy/stack/siteparts.py
42: An InfluxDB outside kpstream is changed only on request, by `kpstream site setup`.
149: never with a shared group
165: otherwise it leaves again at the next start
### deploy/stack/topics.py
24: A record plus Kafka's overhead. A worker whose record is refused could never continue.
31: Kafka deletes only closed segments, so a quiet partition closes one per hour.
39: Every device writes its row once a second, and a starting worker reads all rows. Rare compaction makes that slow, and rows older than a minute are useless.
98: Normally read within a second; three days cover a weekend without workers.
100: The store may be down for a week before InfluxDB misses a point.
103: For operators, to inspect and to replay.
### deploy/stack/units.py
68: With growing pauses if systemd supports them (254 or later), and without a limit.
### deploy/supervisor/background.py
49: the reader of the result handles it
### deploy/supervisor/runningprogram.py
64: why the watchdog stops it
88: -- while the site is up -----------------------------------------------------------------
128: Any failure is shown and retried; the other programs keep running.
146: The last line before a SIGKILL does not explain the end.
221: -- while the site stops -----------------------------------------------------------------
258: -- its log ------------------------------------------------------------------------------
### deploy/supervisor/sitestate.py
52: Attribute -> key in site.json and in `kpstream site status --json`, which users rely on.
176: The name in parentheses may contain anything; the fields after it are fixed.
214: Python opens files as not inheritable, so no child process keeps the lock.
### deploy/supervisor/supervisor.py
101: Without its servers a worker cannot make progress, which is no reason to restart it.
138: a full disk must not end the supervisor