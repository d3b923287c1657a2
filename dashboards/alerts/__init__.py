"""Alert rules as code. Pure.

In: queries and limits. Out: rules in the form of Grafana's provisioning API. `alert` is the form,
`rules` are the rules.
"""

__all__: list[str] = []
