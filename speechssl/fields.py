"""Former place of `speechssl.config.bounds` and `speechssl.config.names`."""

from speechssl.config.bounds import check_fields as check_fields
from speechssl.config.names import nearest as nearest
