"""`kpstream doctor`: checks that change nothing.

In: settings. Out: findings (`ok`, `warn`, `fail`, `unknown`), each with advice. Promise: safe
beside a running gateway. One message is published, of which bridges keep nothing, and no session
stays at the broker.

1. `command`: runs the checks and prints the findings.
2. `findings`: a finding, and the definition of a check.
3. `pipelinechecks`, `rolloutchecks`, `machinechecks`, `tlschecks`: checks of log, models, stores,
   gateway, centre, machine.
4. `brokerchecks`: all checks of the broker. `brokersteps`: TCP, TLS, CONNECT, SUBSCRIBE, PUBLISH.
   `brokerquestions`: dropped messages, and topics that nothing reads. `announcedrows`: what CONNACK
   announced as a table. `brokercheck`: what to check, from the settings.
"""

__all__: list[str] = []
