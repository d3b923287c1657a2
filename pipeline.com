### pipeline/app.py
233: -- window state and moving partitions -----------------------------------------------------
246: Faust would only log it and continue with some of the devices
308: -- the Faust app --------------------------------------------------------------------------
336: if off, Faust acks unfinished work at every stop records are bundles of many messages
350: `ingest.kafka.create_topics` creates them with settings
### pipeline/console/pages.py
147: a young device fills the chart
### pipeline/console/queries.py
210: A loop, because SQLite's window functions take three times as long.
212: start, is its first point, end, value
224: for a point after a gap
### pipeline/console/server.py
64: so that several open pages cost as much as one
196: in the event loop, because the view changes under threads
290: answers
365: in the event loop, because it changes under threads
### pipeline/log/file.py
33: "kplg", so that `file` and other programs can identify the log
125: both only take effect on an empty file
151: SQLite would start a new database
244: disk full: the lock holds without the process id
282: SQLite's message quotes bytes of the file
### pipeline/log/handover.py
61: records that nothing references will never be acked
65: Faust acks the records of bodies that it cancels
### pipeline/log/kafkatransport.py
51: the next record that an agent uses end of the unbroken run of acks
54: -- without holes ----------------------------------------------------------------------
89: left from an earlier assignment, not confirmed
103: run its first step
142: -- committing -------------------------------------------------------------------------
206: usually a cancellation
271: until the crash stops the agent
### pipeline/log/locallog.py
162: -- topics -----------------------------------------------------------------------------
227: -- records ----------------------------------------------------------------------------
311: -- groups -----------------------------------------------------------------------------
401: -- listeners, stats, closing -----------------------------------------------------------
441: the round runs after the transaction of this call ... ... and before the next one
### pipeline/log/reader.py
62: else return the intact ones; the next read starts here and raises
67: as above; the next read opens another connection
71: closed meanwhile: nothing else would close this connection
### pipeline/log/repair.py
162: derived from its records instead
172: the group reads from the first record again, which is harmless
215: Table recovery waits for the last record of a changelog, so the end follows one.
218: offsets of lost records are not reused
266: an inner page is damaged: find where the tree continues
269: the tree is intact here, this record is not
### pipeline/log/retention.py
86: slots with records deleted before a soft group read them
107: only unread records are left
117: -- read records -----------------------------------------------------------------------
131: under pressure, everything that every group has read goes at once
186: -- unread records of soft groups ------------------------------------------------------
280: -- deleting ---------------------------------------------------------------------------
### pipeline/log/sqliteconsumer.py
86: -- assignment -------------------------------------------------------------------------
143: -- offsets ----------------------------------------------------------------------------
182: -- committing -------------------------------------------------------------------------
185: sent records are not durable
189: the next commit covers this one; a restart only repeats work
222: -- reading ----------------------------------------------------------------------------
237: before reading, so that no record that arrives meanwhile is missed
263: a seek happened meanwhile
265: only a hole up to the end
288: compaction leaves holes
### pipeline/log/sqliteproducer.py
104: collect the sends of this turn of the loop
122: smaller batches fit sooner nothing of it was acked, so a restart repeats it
135: one record is at fault; the others must be stored
160: returns after 0.1 s without progress
220: cancelled by the sender
227: chosen by the log
### pipeline/log/state.py
241: in order of arrival, to drop the oldest
332: two queries: SQLite looks up one end only, not both
### pipeline/log/writer.py
104: an append was refused since the last round of retention
150: -- refusing ---------------------------------------------------------------------------
175: -- the thread -------------------------------------------------------------------------
184: a bug: no future may stay unresolved
296: an event loop that closed must not stop the writer
310: -- appends ----------------------------------------------------------------------------
380: never falls, even if the clock is set back
472: inserted again at the end, to keep the order of offsets
### pipeline/points/accounts.py
93: The counter of a reason begins at 0; otherwise its first dead letters would not show.
111: -- parts of an account ----------------------------------------------------------------
### pipeline/points/lines.py
53: A backslash at the end would escape the next character, so InfluxDB's client appends a blank.
### pipeline/scoring/rollover.py
236: A single assignment, so a scorer sees either the old or the new student.
259: a retry of a version that is not there yet
### pipeline/scoring/stage.py
169: -- one turn ---------------------------------------------------------------------------
259: late readings have no reason
275: -- checkpoint -------------------------------------------------------------------------
### pipeline/scoring/students.py
92: a damaged one is reported when it should run
### pipeline/stage.py
38: 2 ** (1/16): a percentile is off by at most 4.5 %
40: up to 0.01 ms * 2**36, about eight days
### pipeline/stores/influxclient.py
127: HTTP also allows a date; the caller's own back-off then applies
190: Level 1 is 13 times cheaper than the default, and the result is half as big again.
256: the answer had begun with status 200
261: the client turns a failed handshake into an answer without status
272: The text of urllib3's errors holds host and port, never a header.
292: the client has read it already
### pipeline/stores/influxlayout.py
182: One read per part, because InfluxDB then reads, filters and aggregates in one step.
### pipeline/stores/influxsetup.py
28: This text marks the tasks of kpstream in every InfluxDB that has been set up, so it keeps the path of the release that first wrote it.
125: -- buckets ------------------------------------------------------------------------------
139: With the organisation in the query, InfluxDB answers 404 where there is none.
170: -- tasks --------------------------------------------------------------------------------
212: -- tokens -------------------------------------------------------------------------------
246: -- requests -----------------------------------------------------------------------------
### pipeline/stores/resultsfile.py
39: "kpst"
42: columns of one measurement; SQLite's own limit is 2000 quick_check reads everything: only small files are checked whole
98: measurement -> folded name -> name
102: device and inode
136: the rollback removed what this transaction interned
186: opening
244: writing
322: retention
344: each round deletes a share of every series; a few rounds suffice
### pipeline/stores/stage.py
234: -- one turn ---------------------------------------------------------------------------
301: -- dead letters -----------------------------------------------------------------------
### pipeline/windows/cutters.py
44: index into ts - index into _recv and _values
165: index of the run's first reading, which may be forgotten
198: belong to count windows; the snapshot has them for both
### pipeline/windows/devices.py
126: snapshot of a windower whose student is unknown so far
158: Decide once per device, before any item, whether it has applied this record already.
213: the account shared by devices without a student
217: -- one device -------------------------------------------------------------------------
383: an offset is valid in its partition only
### pipeline/windows/spec.py
144: first reading, one past the last, start_ms, end_ms