"""Functions whose answer follows from their arguments and the tables alone.

A statement that calls any other one is not cached: it may give something else each time, read what no
version tells of, or write. The list is short on purpose; what is missing only costs a cached answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from consona.sql.placeholders import Token

__all__ = ["unknown_word"]

_FUNCTIONS: Final = (
    # Sums and windows
    " count sum avg min max total group_concat string_agg array_agg json_agg jsonb_agg json_object_agg jsonb_object_agg"
    " json_group_array json_group_object jsonb_group_array jsonb_group_object json_arrayagg json_objectagg"
    " bool_and bool_or every bit_and bit_or bit_xor stddev stddev_pop stddev_samp variance var_pop var_samp"
    " percentile_cont percentile_disc mode corr covar_pop covar_samp regr_slope regr_intercept median"
    " row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value grouping"
    # Text
    " length char_length character_length octet_length lower upper initcap substr substring trim ltrim rtrim btrim lpad"
    " rpad left right replace reverse repeat concat concat_ws instr locate position strpos split_part overlay translate"
    " ascii chr char unicode hex unhex quote quote_literal quote_ident printf format md5 sha1 sha2 sha256 encode decode"
    " regexp_replace regexp_matches regexp_match regexp_substr regexp_instr starts_with field elt find_in_set soundex"
    # Numbers
    " abs round floor ceil ceiling trunc truncate sign mod div power pow sqrt exp ln log log10 log2 sin cos tan asin"
    " acos atan atan2 sinh cosh tanh degrees radians pi greatest least width_bucket gcd lcm conv bin oct"
    # Choices and types
    " coalesce ifnull nullif iif if isnull nvl typeof cast convert to_number likely unlikely likelihood"
    # JSON and arrays
    " json json_extract jsonb_extract json_value json_query json_array json_object json_array_length json_type"
    " json_valid json_each json_tree json_insert json_replace json_set json_remove json_patch json_quote json_unquote"
    " json_contains json_length json_keys json_search json_table jsonb jsonb_each jsonb_tree jsonb_array jsonb_object"
    " json_extract_path json_extract_path_text jsonb_extract_path jsonb_extract_path_text json_array_elements"
    " jsonb_array_elements json_array_elements_text jsonb_array_elements_text json_each_text jsonb_each_text"
    " json_object_keys jsonb_object_keys jsonb_array_length jsonb_path_query jsonb_path_query_first jsonb_path_exists"
    " jsonb_build_object jsonb_build_array json_build_object json_build_array to_json to_jsonb json_typeof jsonb_typeof"
    " jsonb_set jsonb_strip_nulls row_to_json array unnest cardinality array_length array_position array_to_string"
    " string_to_array array_cat array_append array_remove any all some generate_series row"
    # Search
    " match bm25 highlight snippet to_tsvector to_tsquery plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank"
    " ts_rank_cd ts_headline similarity"
    # Parts of times
    " extract date_part date_trunc make_date make_time make_interval year month day hour minute second quarter week"
    " weekday dayofweek dayofmonth dayofyear to_days from_days datediff timestampdiff date_add date_sub adddate subdate"
    " date_format str_to_date last_day to_char to_date to_timestamp from_unixtime time_to_sec sec_to_time"
)
FUNCTIONS: Final = frozenset(_FUNCTIONS.split())
TIMES: Final = frozenset({"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff", "timestamp"})
"""Functions that know the word "now": allowed where a column is what they are given."""
_WORDS: Final = (
    "in values and or not exists over by as on using from join select where when then else case having limit"
    " offset union except intersect filter group within with materialized distinct between like ilike glob"
    " regexp is null recursive window rows range groups partition order set lateral cube rollup sets returning"
    " end conflict varchar char character decimal numeric float double bit varbit binary varbinary interval array"
)
BEFORE_PARENTHESES: Final = frozenset(_WORDS.split())
_NEW: Final = (
    "current_timestamp current_date current_time localtime localtimestamp sysdate utc_timestamp utc_date"
    " utc_time tablesample"
)
EACH_TIME_NEW: Final = frozenset(_NEW.split())
NOW_WORDS: Final = frozenset({"now", "today", "tomorrow", "yesterday"})
"""Texts that become the present time where one is wanted."""


def unknown_word(pieces: Sequence[Token]) -> str:
    """The first word of a statement that makes its answer depend on more than the tables; nothing where none does."""
    telling = [token for token in pieces if token.kind not in {"space", "comment"}]
    for number, token in enumerate(telling):
        word = token.text.lower()
        if token.kind == "word" and word in EACH_TIME_NEW:
            return token.text
        if token.kind in {"text", "escaped"} and word.strip("e' ") in NOW_WORDS:
            return token.text
        called = number + 1 < len(telling) and telling[number + 1].text == "("
        if not called or token.kind not in {"word", "name"}:
            continue
        if token.kind == "word" and word in TIMES and not _of_a_column(telling[number + 2 :]):
            return token.text
        if word not in FUNCTIONS | BEFORE_PARENTHESES | TIMES and not _has_columns(telling, number):
            return token.text
    return ""


def _of_a_column(after: Sequence[Token]) -> bool:
    """Whether the parentheses that have just opened hold the name of a column and no placeholder."""
    depth, column = 1, False
    for token in after:
        depth += (token.text == "(") - (token.text == ")")
        if not depth:
            return column
        if token.kind in {"mark", "named"}:
            return False
        column = column or token.kind in {"word", "name"}
    return False


def _has_columns(telling: Sequence[Token], number: int) -> bool:
    """Whether a list of columns follows the name, as in `INTO name (columns)` and `WITH name (columns) AS (`."""
    before = number - 1
    while before > 0 and telling[before].text == ".":
        before -= 2
    word = telling[before].text.lower() if before >= 0 else ""
    if word == "into":
        return True
    return word in {"with", "recursive", ","} and any(
        token.text == ")" and telling[at + 1 : at + 2] and telling[at + 1].text.lower() == "as"
        for at, token in enumerate(telling[number : number + 60], number)
    )
