"""A model inside ELAN, as one of its local recognisers: what ELAN needs to find it
(:mod:`speechssl.elan.install`), what it says and is told (:mod:`speechssl.elan.protocol`), and the
program that it starts (:mod:`speechssl.elan.recognizer`)."""
