"""How a gateway follows its centre: fetch, verify, compare, take over, go back.

What comes in is a repository of The Update Framework behind a URL or in a folder; what goes out
are versions in the gateway's own registry, moves of its pointer, and reports. Only the short-lived
child process that fetches imports `tuf`. A problem of a rollout never stops scoring.

1. `fetch`: fetches and verifies in a child process (`fetchchild`, `childtransport`,
   `childverdict`);
   `marks` refuse to go back. `fetchplan`: when to look.
2. `phases`: what to do next with a release, a pure state machine. `facts`: what it decides from.
   `progress`: what is remembered of a release, `memory`: the file of it.
3. `agent`: decides every second, and acts. `pruning`: old versions that are deleted.
4. `software`: the updater of the gateway's own software, a process of root; `softwarememory`.
5. `reports`: the report of a gateway, `reporter`: its way to the centre over MQTT.
"""
