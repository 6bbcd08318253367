"""Writes tests/data/json_schemas.json: JSON schemas, texts, and who takes which of them.

    python tests/tools/schema_goldens.py LLAMA_CPP > tests/data/json_schemas.json

    python tests/tools/schema_goldens.py --ours libpowerinfer.so

LLAMA_CPP is a source tree of llama.cpp (that of llama-cpp-python 0.3.36): its converter of schemas is
compiled with the system's C++ compiler, and its library, by way of llama-cpp-python, follows the grammar
through each text. jsonschema[format] 4.26 says whether a text satisfies the schema. Both are asked
about what stands in CASES, where `yes` are the texts that a grammar of this library takes and `no` those
that it does not; where it differs from the one or the other, `why` has to say so. The second line has
llama.cpp's library follow the grammars of this one.
"""

import ctypes
import json
import pathlib
import subprocess
import sys
import tempfile

import jsonschema
import llama_cpp

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
VOCAB = "ggml-vocab-gpt-2.gguf"

# Reasons for taking other texts than llama.cpp or the validator do.
ORDER = "properties come in the order of the schema; llama.cpp has the required ones first"
CLOSED = "an object with properties has no others unless it says so (as in llama.cpp)"
TUPLE = "the items of a tuple are all there unless minItems says so (as in llama.cpp)"
TYPE = "keywords of one type leave only that type (as in llama.cpp)"
MERGED = "keywords beside anyOf, oneOf, allOf and $ref count; llama.cpp drops them"
RANGE = "numbers have ranges; llama.cpp has them for integers only"
EXPONENT = "numbers with a range are written without exponent"
SEARCH = "a pattern may match anywhere; llama.cpp takes any string if it is not anchored"
CLASSES = "\\d, \\w, \\s and other escapes are known; llama.cpp takes any string"
LENGTH = "a pattern and lengths count together; llama.cpp drops the lengths"
CALENDAR = "months have their days; llama.cpp takes the 31st of all"
SECONDS = "fractions of seconds have up to 9 digits; llama.cpp wants 3"
ESCAPES = "what patterns match is escaped as JSON wants it"
TUPLE_REST = "prefixItems and items together; llama.cpp drops prefixItems"
COUNT = "the number of properties counts; llama.cpp drops it"
KEYS = "patternProperties and propertyNames count; llama.cpp drops them"
NAMED = "required names that are no properties are there too; llama.cpp drops them"
PRESENT = "a name that is excluded is not written with escapes either"
SURROGATES = "no half of a surrogate pair alone"
LARGE = "no exponent of more than two digits: all numbers are finite"
OPENAPI = "nullable as OpenAPI 3.0 has it; JSON Schema does not know it"
WHITE = "white space within values that are given; llama.cpp wants none"
STEP = "multipleOf 10^-k leaves k digits; llama.cpp drops it"
FILTER = "values of an enum that other keywords refuse are left out; llama.cpp has them"
LOST = "not enforced, and logged"
SLASH = "\\/ is JSON"
EMPTY = "an object with no properties in it: llama.cpp wants no space twice"
POINTER = "pointers are decoded (~0, ~1, %XX); llama.cpp does not"
DEEP = "allOf of schemas of any type; llama.cpp merges only properties and enums"
BOOLS = "true and false are schemas"
DEL = "no raw DEL character (as in llama.cpp)"
DIGITS = "no more than 16 digits (as in llama.cpp)"
SPACES = "white space is one space, or line ends and indentation (as in llama.cpp)"
ITEMS = "anything but what contradicts"
COLON = "white space before every colon (llama.cpp: of named properties)"
PREFIX = "the beginning of a name is another name"
DRAFT4 = "exclusiveMinimum: true as drafts 3, 4 and OpenAPI 3.0 have it"


def obj(properties, required=None, **more):
    schema = {"type": "object", "properties": properties, **more}
    if required is not None:
        schema["required"] = required
    return schema


STR, INT, NUM, BOOL, NULL = ({"type": t} for t in ("string", "integer", "number", "boolean", "null"))
NODE = {"$ref": "#/$defs/node"}

# name, schema, yes, no, {text: reason, ...} ("*" for all that differ)
CASES = [
    ("any", {}, ["1", '"a"', "null", "true", "[]", "[1, {}]", '{"a": [null]}', "-0.5e+10", '{"a":{"b":"c"}}'], ["", "a", "01", "[1,]", "{a:1}", "nul", "1.", ".5", "+1", "[1 2]", "'a'", "1 1"], {}),
    ("true", True, ["1", "{}"], ["x"], {"*": BOOLS}),
    ("description only", {"description": "anything"}, ["1", "[]"], ["]"], {}),
    ("string", STR, ['""', '"a"', '"é 日本 😀"', '"\\n\\"\\\\"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\/"', '"\\uDBFF\\uDFFF"'], ['"', 'a', '"a', '"\n"', '"\\x"', '"\\u12"', "1", '"\x7f"', '"\\ud83d"', '"\\ude00"', '"\\ud83dx"', '"a" '], {'"\\/"': SLASH, '"\x7f"': DEL, '"\\ud83d"': SURROGATES, '"\\ude00"': SURROGATES, '"\\ud83dx"': SURROGATES, '"a" ': SPACES}),
    ("min length", {"type": "string", "minLength": 2}, ['"ab"', '"abc"', '"\\u00e9x"', '"\\ud83d\\ude00x"'], ['""', '"a"', '"\\n"', '"\\ud83d\\ude00"'], {'"\\ud83d\\ude00"': SURROGATES}),
    ("max length", {"type": "string", "maxLength": 2}, ['""', '"ab"', '"日本"'], ['"abc"'], {}),
    ("min and max length", {"type": "string", "minLength": 1, "maxLength": 3}, ['"a"', '"abc"'], ['""', '"abcd"'], {}),
    ("long strings", {"type": "string", "minLength": 150, "maxLength": 301}, ['"' + "a" * n + '"' for n in (150, 151, 200, 300, 301)], ['"' + "a" * n + '"' for n in (149, 302, 0)], {}),
    ("very long strings", {"type": "string", "minLength": 2100}, ['"' + "a" * 2100 + '"', '"' + "a" * 2500 + '"'], ['"' + "a" * 2099 + '"', '""'], {"*": "llama.cpp's grammar refuses more than 2000 repetitions"}),
    ("boolean", BOOL, ["true", "false"], ["True", "1", "null"], {}),
    ("null", NULL, ["null"], ["nul", "0", "false"], {}),
    ("number", NUM, ["0", "-0", "1.5", "1e5", "1E-5", "123456.789", "-1.25e+3", "9999999999999999"], ["01", "1.", ".1", "-", "1e", "--1", "1e400", "Infinity", "0x1", "12345678901234567"], {"1e400": LARGE, "12345678901234567": DIGITS}),
    ("integer", INT, ["0", "-1", "42", "9007199254740993"], ["1.5", "01", "-", "1e5", "1.0", "-01"], {"1.0": "integers are written without a point (as in llama.cpp)", "1e5": "integers are written without exponent (as in llama.cpp)"}),
    ("several types", {"type": ["string", "null", "integer"]}, ['"a"', "null", "5"], ["1.5", "true", "[]"], {}),
    ("several types with keywords", {"type": ["string", "integer"], "minLength": 2, "minimum": 5}, ['"ab"', "5"], ['"a"', "4"], {}),
    ("nullable", {"type": "string", "nullable": True}, ['"a"', "null"], ["1"], {"null": OPENAPI}),
    ("nullable list", {"type": ["array", "null"], "items": {"type": "string"}}, ["null", '["a"]', "[]"], ["[1]", "[null]"], {}),
    ("minimum 0", {"type": "integer", "minimum": 0}, ["0", "1", "10", "999"], ["-1", "01", "-0"], {"-0": "-0 is left to negative ranges (as in llama.cpp)"}),
    ("minimum 9", {"type": "integer", "minimum": 9}, ["9", "10", "100"], ["8", "0", "-9"], {}),
    ("minimum 25", {"type": "integer", "minimum": 25}, ["25", "26", "30", "99", "100", "1000000"], ["24", "19", "2", "0", "-25"], {}),
    ("minimum 1234", {"type": "integer", "minimum": 1234}, ["1234", "1235", "2000", "9999", "10000"], ["1233", "999", "234", "01234"], {}),
    ("minimum -5", {"type": "integer", "minimum": -5}, ["-5", "-1", "0", "5", "55"], ["-6", "-10", "-55"], {}),
    ("minimum -123", {"type": "integer", "minimum": -123}, ["-123", "-122", "-99", "-1", "0", "124"], ["-124", "-200", "-1000"], {}),
    ("maximum 30", {"type": "integer", "maximum": 30}, ["30", "29", "0", "-1", "-31", "-1000"], ["31", "40", "100"], {}),
    ("maximum -5", {"type": "integer", "maximum": -5}, ["-5", "-6", "-10", "-100"], ["-4", "-1", "0", "5", "-05"], {"-05": "llama.cpp takes zeros before it"}),
    ("maximum 100", {"type": "integer", "maximum": 100}, ["100", "99", "0", "-100"], ["101", "200", "1000"], {}),
    ("0 to 23", {"type": "integer", "minimum": 0, "maximum": 23}, [str(n) for n in range(24)], ["24", "30", "-1", "00", "100"], {}),
    ("15 to 300", {"type": "integer", "minimum": 15, "maximum": 300}, ["15", "19", "20", "99", "100", "199", "299", "300"], ["14", "5", "301", "310", "400", "1000"], {}),
    ("-123 to 42", {"type": "integer", "minimum": -123, "maximum": 42}, ["-123", "-100", "-99", "-1", "0", "42", "7"], ["-124", "-200", "43", "50", "100"], {}),
    ("-300 to -15", {"type": "integer", "minimum": -300, "maximum": -15}, ["-300", "-299", "-99", "-15", "-16"], ["-301", "-14", "-5", "0", "15"], {}),
    ("exclusive", {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 7}, ["4", "5", "6"], ["3", "7", "0", "44"], {}),
    ("exclusive and not", {"type": "integer", "minimum": 1, "exclusiveMinimum": 3, "maximum": 7, "exclusiveMaximum": 7}, ["4", "6"], ["1", "3", "7"], {"*": "both bounds count; llama.cpp reads one"}),
    ("draft 4 exclusive", {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 6}, ["4", "6"], ["3", "7"], {"*": DRAFT4}),
    ("fractional bounds of integers", {"type": "integer", "minimum": 1.5, "maximum": 3.5}, ["2", "3"], ["1", "4"], {}),
    ("large integers", {"type": "integer", "minimum": 1, "maximum": 18446744073709551615}, ["1", "9223372036854775807", "18446744073709551615"], ["0", "18446744073709551616", "99999999999999999999"], {"*": "bounds of more than 63 bits"}),
    ("0 to 1", {"type": "number", "minimum": 0, "maximum": 1}, ["0", "1", "0.5", "1.0", "0.123456789", "1.000", "0.0"], ["-0", "1.1", "2", "-0.1", "1.0001", "1e0", "-1", "0."], {"*": RANGE, "1e0": EXPONENT, "-0": "-0 is left to negative ranges"}),
    ("fractions", {"type": "number", "minimum": -1.25, "maximum": 2.75}, ["-1.25", "-1.2", "-1", "-0.999", "0", "2.75", "2.7", "2.75000", "2.0", "1.99"], ["-1.26", "-1.3", "-2", "2.76", "2.8", "3", "2.7500001"], {"*": RANGE}),
    ("same integer part", {"type": "number", "minimum": 0.05, "maximum": 0.25}, ["0.05", "0.1", "0.24999", "0.25", "0.050", "0.2"], ["0.04", "0", "0.0", "0.26", "0.3", "0.2501", "0.049"], {"*": RANGE}),
    ("exclusive fractions", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, ["0.5", "0.001", "0.999"], ["0", "0.0", "1", "1.0", "-0"], {"*": RANGE}),
    ("below zero", {"type": "number", "exclusiveMaximum": 0}, ["-1", "-0.5", "-100.25", "-0.001"], ["0", "-0", "-0.0", "0.5", "1"], {"*": RANGE}),
    ("minimum 0.5", {"type": "number", "minimum": 0.5}, ["0.5", "0.51", "0.6", "1", "1.2", "123"], ["0.49", "0", "0.4999", "-1", "0.05"], {"*": RANGE}),
    ("maximum -0.5", {"type": "number", "maximum": -0.5}, ["-0.5", "-0.51", "-1", "-7.25"], ["-0.49", "0", "0.5", "-0.4"], {"*": RANGE}),
    ("huge bounds do nothing", {"type": "number", "minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308}, ["0", "-1.5", "123456789"], ["x"], {}),
    ("cents", {"type": "number", "multipleOf": 0.01, "minimum": 0}, ["1", "1.5", "1.25", "0.01"], ["1.255", "-1"], {"*": STEP}),
    ("whole numbers", {"type": "number", "multipleOf": 1}, ["1", "-3"], ["1.5", "1.0"], {"*": STEP}),
    ("const", {"const": "a\"b"}, ['"a\\"b"'], ['"a"', '"a\\"b', "1"], {}),
    ("const number", {"const": 1.5}, ["1.5"], ["1", "1.50"], {"1.50": "given values are written one way (as in llama.cpp)"}),
    ("const object", {"const": {"a": [1, None], "b": {}}}, ['{"a":[1,null],"b":{}}', '{"a": [1, null], "b": {}}'], ['{"a":[1],"b":{}}', '{"b":{},"a":[1,null]}'], {'{"a": [1, null], "b": {}}': WHITE, '{"b":{},"a":[1,null]}': "given values are written one way (as in llama.cpp)"}),
    ("escaped const", {"const": " \r \n \" \\ é"}, ['" \\r \\n \\" \\\\ é"'], ['"x"'], {}),
    ("enum", {"enum": ["red", 1, None, True, 2.5, "green"]}, ['"red"', "1", "null", "true", "2.5", '"green"'], ['"blue"', "2", "false", '"redgreen"'], {}),
    ("enum of a type", {"type": "string", "enum": ["a", "b", 3]}, ['"a"', '"b"'], ["3", '"c"'], {"3": FILTER}),
    ("enum with bounds", {"enum": [1, 5, 10], "minimum": 5}, ["5", "10"], ["1"], {"1": FILTER}),
    ("enum with a length", {"enum": ["a", "abc", 7], "minLength": 2}, ['"abc"', "7"], ['"a"'], {'"a"': FILTER}),
    ("enum with a prefix", {"enum": ["a", "ab", "abc"]}, ['"a"', '"ab"', '"abc"'], ['""', '"abcd"'], {}),
    ("array", {"type": "array"}, ["[]", "[1]", '[1, "a", []]', "[\n  1,\n  2\n]"], ["[", "[1,]", "[,1]", "{}"], {}),
    ("items", {"type": "array", "items": INT}, ["[]", "[1]", "[1, 2,3]"], ['["a"]', "[1.5]", "[null]"], {}),
    ("items only", {"items": {"type": "string"}}, ["[]", '["a"]'], ["[1]", '"a"'], {'"a"': TYPE}),
    ("items true", {"type": "array", "items": True, "minItems": 1}, ["[1]", '["a", 1]'], ["[]"], {"*": BOOLS}),
    ("min items", {"type": "array", "items": BOOL, "minItems": 2}, ["[true, false]", "[true,true,true]"], ["[]", "[true]"], {}),
    ("max items 0", {"type": "array", "items": BOOL, "maxItems": 0}, ["[]", "[ ]"], ["[true]"], {}),
    ("max items 1", {"type": "array", "items": BOOL, "maxItems": 1}, ["[]", "[true]"], ["[true, true]"], {}),
    ("min and max items", {"type": "array", "items": INT, "minItems": 2, "maxItems": 3}, ["[1,2]", "[1, 2, 3]"], ["[1]", "[]", "[1,2,3,4]"], {}),
    ("many items", {"type": "array", "items": NULL, "minItems": 130, "maxItems": 200}, ["[" + ",".join(["null"] * n) + "]" for n in (130, 131, 199, 200)], ["[" + ",".join(["null"] * n) + "]" for n in (1, 129, 201)], {}),
    ("tuple", {"prefixItems": [STR, INT]}, ['["a", 1]', '["a",1]'], ['[1, "a"]', '["a"]', "[]", '["a", 1, 2]'], {'["a"]': TUPLE, "[]": TUPLE, '["a", 1, 2]': TUPLE}),
    ("tuple of draft 7", {"$schema": "http://json-schema.org/draft-07/schema#", "items": [STR, INT]}, ['["a", 1]'], ['[1, "a"]', '["a"]', '["a", 1, 2]'], {'["a"]': TUPLE, '["a", 1, 2]': TUPLE}),
    ("tuple and more of draft 7", {"$schema": "http://json-schema.org/draft-07/schema#", "items": [STR], "additionalItems": INT}, ['["a"]', '["a", 1, 2]'], ['["a", "b"]', "[]"], {"[]": TUPLE, '["a", 1, 2]': TUPLE_REST}),
    ("tuple and more", {"prefixItems": [STR, NULL], "items": INT, "minItems": 1, "maxItems": 4}, ['["a"]', '["a", null]', '["a", null, 1, 2]'], ["[]", '["a", 1]', '["a", null, "b"]', '["a", null, 1, 2, 3]'], {"*": TUPLE_REST}),
    ("tuple with a minimum", {"prefixItems": [STR, INT, BOOL], "minItems": 1, "items": False}, ['["a"]', '["a", 1]', '["a", 1, true]'], ["[]", '["a", true]', '["a", 1, true, 1]'], {"*": TUPLE_REST}),
    ("long tuple", {"prefixItems": [INT] * 12, "minItems": 0}, ["[" + ",".join(["1"] * n) + "]" for n in (0, 1, 5, 11, 12)], ["[" + ",".join(["1"] * 13) + "]", '["a"]'], {"*": TUPLE}),
    ("object", {"type": "object"}, ["{}", '{"a": 1}', '{"a":{"b":[]}, "c" : null}'], ["[]", "{1:2}", '{"a"}', '{"a":1,}'], {'{"a":{"b":[]}, "c" : null}': COLON}),
    ("required", obj({"a": INT, "b": STR}, ["a", "b"]), ['{"a": 1, "b": "x"}', '{"a":1,"b":"x"}', '{\n  "a": 1,\n  "b": "x"\n}', '{ "a" : 1, "b": "x" }'], ['{"b": "x", "a": 1}', '{"a": 1}', "{}", '{"a": 1, "b": "x", "c": 1}', '{"a": "x", "b": "x"}', '{   "a": 1, "b": "x"}'], {'{"b": "x", "a": 1}': "one order (as in llama.cpp)", '{"a": 1, "b": "x", "c": 1}': CLOSED, '{   "a": 1, "b": "x"}': SPACES}),
    ("optional", obj({"a": INT, "b": INT, "c": INT}), ["{}", "{ }", '{"a":1}', '{"b":1}', '{"c":1}', '{"a":1,"b":2}', '{"a":1,"c":2}', '{"b":1,"c":2}', '{"a":1,"b":2,"c":3}'], ['{"b":1,"a":2}', '{"a":1,"a":2}', '{"d":1}', '{,"a":1}', '{"a":1,}', '{"a":"x"}'], {'{"b":1,"a":2}': "one order (as in llama.cpp)", '{"a":1,"a":2}': "no property twice", '{"d":1}': CLOSED}),
    ("optional among required", obj({"a": INT, "b": INT, "c": INT, "d": INT}, ["b"]), ['{"b":1}', '{"a":0,"b":1}', '{"b":1,"d":2}', '{"a":0,"b":1,"c":2,"d":3}', '{"b":1,"c":2}'], ['{"a":0}', "{}", '{"a":0,"c":1}', '{"b":1,"a":0}', '{"b":1,"c":1,"a":0}'], {'{"a":0,"b":1}': ORDER, '{"a":0,"b":1,"c":2,"d":3}': ORDER, '{"b":1,"a":0}': ORDER, '{"b":1,"c":1,"a":0}': "one order (as in llama.cpp)"}),
    ("no additional properties", obj({"a": INT}, additionalProperties=False), ["{}", '{"a":1}'], ['{"b":1}'], {}),
    ("no properties at all", {"type": "object", "additionalProperties": False}, ["{}", "{ }"], ['{"a":1}'], {}),
    ("additional properties", {"type": "object", "additionalProperties": INT}, ["{}", '{"a":1}', '{"a":1, "b": 2}', '{"":3}'], ['{"a":"x"}', '{"a":1, "b": null}'], {}),
    ("additional beside required", obj({"a": STR}, ["a"], additionalProperties=INT), ['{"a":"x"}', '{"a":"x","b":1}', '{"a":"x","ab":1,"":2,"b":3}'], ['{"b":1}', '{"a":"x","b":"y"}', '{"a":"x","a":1}', '{"a":"x","\\u0061":1}'], {'{"a":"x","\\u0061":1}': PRESENT}),
    ("additional beside optional", obj({"and": INT, "or": INT, "an": BOOL}, additionalProperties=True), ["{}", '{"and":1}', '{"or":1,"x":null}', '{"a":1}', '{"andy":[],"orb":{}}', '{"\\"":1}', '{"\\n":1}', '{"a\\tb":1}', '{"an":true}'], ['{"and":"x"}', '{"or":"1"}', '{"x":1,"and":2}', '{"an":1}'], {'{"x":1,"and":2}': "one order (as in llama.cpp)", '{"\\"":1}': "escapes in other names", '{"a":1}': PREFIX}),
    ("names with quotes", obj({'a"b': INT, "c\n": INT, "/é😀": INT}, additionalProperties=STR), ['{"a\\"b":1,"c\\n":2,"/é😀":3}', '{"a\\"":"x","c":"y","a\\"bc":"z","c\\t":"","é\\/":"","/é":"","é":""}'], ['{"a\\"b":"x"}', '{"c\\n":"x"}', '{"/é😀":"x"}', '{"\\/é😀":"x"}', '{"x":1}'], {"*": PRESENT}),
    ("empty name", obj({"": INT, "a": INT}, additionalProperties=STR), ['{"":1,"a":2}', '{"b":"x"}', '{"aa":"x"}'], ['{"":"x"}', '{"a":"x"}'], {"*": "llama.cpp cannot take the empty name apart from others"}),
    ("nested", obj({"p": obj({"x": INT, "y": INT}, ["x", "y"]), "q": {"type": "array", "items": obj({"z": BOOL}, ["z"])}}, ["p", "q"]), ['{"p":{"x":1,"y":2},"q":[{"z":true},{"z":false}]}', '{"p": {"x": 1, "y": 2}, "q": []}'], ['{"p":{"x":1},"q":[]}', '{"p":{"x":1,"y":2},"q":[{}]}', '{"p":{"x":1,"y":2},"q":[{"z":1}]}'], {}),
    ("properties only", {"properties": {"a": INT}, "required": ["a"]}, ['{"a":1}'], ["{}", "1", '{"a":null}'], {"1": TYPE}),
    ("required names that are no properties", obj({"a": INT}, ["a", "b"]), ['{"a":1,"b":[]}'], ['{"a":1}', '{"b":1}'], {"*": NAMED}),
    ("min properties", {"type": "object", "additionalProperties": INT, "minProperties": 2, "maxProperties": 3}, ['{"a":1,"b":2}', '{"a":1,"b":2,"c":3}'], ["{}", '{"a":1}', '{"a":1,"b":2,"c":3,"d":4}'], {"*": COUNT}),
    ("one of the optional", obj({"a": INT, "b": INT}, minProperties=1), ['{"a":1}', '{"b":1}', '{"a":1,"b":1}'], ["{}"], {"*": COUNT}),
    ("all of the optional", obj({"a": INT, "b": INT}, minProperties=2), ['{"a":1,"b":1}'], ["{}", '{"a":1}'], {"*": COUNT}),
    ("pattern properties", {"type": "object", "patternProperties": {"^x-[a-z]+$": INT}, "additionalProperties": False}, ["{}", '{"x-a":1}', '{"x-a":1, "x-bc":2}'], ['{"a":1}', '{"x-a":"b"}'], {"*": KEYS}),
    ("pattern properties beside named", {"type": "object", "properties": {"id": STR}, "patternProperties": {"^x-": INT}, "required": ["id"], "additionalProperties": False}, ['{"id":"a"}', '{"id":"a","x-b":1}'], ['{"id":"a","x-b":"c"}', '{"id":1}', '{"id":"a","b":1}'], {"*": KEYS}),
    ("property names", {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": INT}, ["{}", '{"a":1}', '{"b":1,"a":2}'], ['{"c":1}', '{"a":"x"}'], {"*": KEYS}),
    ("false property", obj({"a": INT, "b": False}), ["{}", '{"a":1}'], ['{"b":1}', '{"a":1,"b":null}'], {"*": BOOLS}),
    ("any of", {"anyOf": [STR, INT, {"type": "array", "items": BOOL}]}, ['"a"', "1", "[true]"], ["1.5", "null", "[1]"], {}),
    ("one of", {"oneOf": [obj({"k": {"const": "a"}, "x": INT}, ["k", "x"]), obj({"k": {"const": "b"}, "y": STR}, ["k", "y"])]}, ['{"k":"a","x":1}', '{"k":"b","y":"z"}'], ['{"k":"a","y":"z"}', '{"k":"b","x":1}', '{"k":"c"}'], {}),
    ("any of within properties", obj({"v": {"anyOf": [NUM, NULL]}}, ["v"]), ['{"v":1.5}', '{"v":null}'], ['{"v":"a"}', "{}"], {}),
    ("any of beside a type", {"type": "object", "properties": {"a": INT, "b": INT}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, ['{"a":1}', '{"b":1}', '{"a":1,"b":2}'], ["{}", "null", "1"], {"*": MERGED}),
    ("any of with common properties", {"properties": {"id": INT}, "required": ["id"], "oneOf": [{"properties": {"x": INT}, "required": ["x"]}, {"properties": {"y": INT}, "required": ["y"]}]}, ['{"id":1,"x":2}', '{"id":1,"y":2}'], ['{"id":1}', '{"x":2}', '{"id":1,"z":2}'], {"*": MERGED}),
    ("any of with a base", {"type": "string", "anyOf": [{"minLength": 3}, {"enum": ["x"]}]}, ['"abc"', '"x"'], ['"ab"', '"y"', "1"], {"*": MERGED}),
    ("two lists of choices", {"allOf": [{"anyOf": [{"type": "integer", "minimum": 0}, STR]}, {"anyOf": [{"type": "integer", "maximum": 9}, NULL]}]}, ["0", "9", "5"], ["-1", "10", '"a"', "null"], {"*": DEEP}),
    ("all of", {"allOf": [obj({"a": INT}, ["a"]), obj({"b": STR}, ["b"])]}, ['{"a":1,"b":"x"}'], ['{"a":1}', '{"b":"x"}', "{}"], {}),
    ("all of with options", {"allOf": [obj({"a": INT}, ["a"]), obj({"b": STR})]}, ['{"a":1}', '{"a":1,"b":"x"}'], ["{}", '{"b":"x"}'], {"*": DEEP}),
    ("all of narrows", {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}, {"type": ["integer", "string"]}]}, ["3", "5"], ["2", "6", '"a"'], {"*": DEEP}),
    ("all of narrows a property", {"allOf": [obj({"a": {"type": ["string", "integer"]}}, ["a"]), obj({"a": {"type": "integer"}})]}, ['{"a":1}'], ['{"a":"x"}', "{}"], {"*": DEEP}),
    ("all of enums", {"allOf": [{"enum": ["a", "b", "c"]}, {"enum": ["b", "c", "d"]}]}, ['"b"', '"c"'], ['"a"', '"d"'], {}),
    ("all of lengths", {"type": "string", "allOf": [{"minLength": 2}, {"maxLength": 3}]}, ['"ab"', '"abc"'], ['"a"', '"abcd"', "{}"], {"*": DEEP}),
    ("all of and additional false", {"allOf": [obj({"a": INT}, additionalProperties=True), {"additionalProperties": INT}]}, ["{}", '{"a":1}', '{"a":1,"b":2}'], ['{"b":"x"}', '{"a":"x"}'], {"*": DEEP}),
    ("reference", {"$defs": {"x": INT}, "type": "array", "items": {"$ref": "#/$defs/x"}}, ["[1,2]"], ['["a"]'], {}),
    ("reference at the top", {"$ref": "#/definitions/x", "definitions": {"x": obj({"a": INT}, ["a"])}}, ['{"a":1}'], ["{}", "1"], {}),
    ("reference with keywords", {"$defs": {"s": {"type": "string", "maxLength": 3}}, "type": "array", "items": {"$ref": "#/$defs/s", "minLength": 2}}, ['["ab","abc"]'], ['["a"]', '["abcd"]'], {"*": MERGED}),
    ("reference with a name in escapes", {"$defs": {"a/b~c d": INT}, "$ref": "#/$defs/a~1b~0c%20d"}, ["1"], ['"a"'], {"*": POINTER}),
    ("reference into a property", obj({"a": INT, "b": {"$ref": "#/properties/a"}}, ["a", "b"]), ['{"a":1,"b":2}'], ['{"a":1,"b":"x"}'], {}),
    ("chain of references", {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/c"}, "c": BOOL}, "$ref": "#/$defs/a"}, ["true"], ["1"], {}),
    ("tree", {"$defs": {"node": obj({"v": INT, "next": {"type": "array", "items": NODE}}, ["v"])}, **NODE}, ['{"v":1}', '{"v":1,"next":[{"v":2,"next":[]},{"v":3}]}'], ['{"next":[]}', '{"v":1,"next":[{}]}', '{"v":1,"next":[1]}'], {}),
    ("list by any of", {"$defs": {"list": {"anyOf": [NULL, obj({"head": INT, "tail": {"$ref": "#/$defs/list"}}, ["head", "tail"])]}}, "$ref": "#/$defs/list"}, ["null", '{"head":1,"tail":null}', '{"head":1,"tail":{"head":2,"tail":null}}'], ["{}", '{"head":1}', '{"head":1,"tail":{}}'], {}),
    ("recursive root", obj({"name": STR, "children": {"type": "array", "items": {"$ref": "#"}}}, ["name"]), ['{"name":"a","children":[{"name":"b"}]}'], ['{"name":"a","children":[{}]}'], {"*": "# is the whole schema"}),
    ("date", {"type": "string", "format": "date"}, ['"2024-02-29"', '"2000-02-29"', '"1999-12-31"', '"2023-04-30"'], ['"2023-13-01"', '"2023-00-10"', '"2023-02-30"', '"2023-02-29"', '"1900-02-29"', '"2023-04-31"', '"2023-1-1"', '"today"', '"2023-01-32"', '"2023-01-00"'], {"*": CALENDAR}),
    ("time", {"type": "string", "format": "time"}, ['"12:34:56Z"', '"23:59:59.123+01:30"', '"00:00:00-08:00"', '"12:00:00.5Z"'], ['"24:00:00Z"', '"12:60:00Z"', '"12:34"', '"12:34:56"', '"12:00:00.Z"'], {'"12:00:00.5Z"': SECONDS}),
    ("date and time", {"type": "string", "format": "date-time"}, ['"2024-02-29T12:34:56Z"', '"2024-01-01T00:00:00.123456+00:00"'], ['"2024-01-01"', '"2024-01-01 00:00:00Z"', '"2024-01-01T00:00:00"', '"2024-02-31T00:00:00Z"'], {'"2024-01-01T00:00:00.123456+00:00"': SECONDS, '"2024-02-31T00:00:00Z"': CALENDAR}),
    ("uuid", {"type": "string", "format": "uuid"}, ['"123e4567-e89b-12d3-a456-426614174000"', '"123E4567-E89B-12D3-A456-426614174000"'], ['"123e4567"', '"123e4567-e89b-12d3-a456-42661417400g"'], {}),
    ("format alone", {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"format": "date"}, {"format": "uuid4"}]}, ['["2024-01-01","123e4567-e89b-12d3-a456-426614174000"]'], ['["x","y"]', "[1,2]"], {"*": TYPE}),
    ("another format", {"type": "string", "format": "email"}, ['"a@b.c"', '"no"'], ["1"], {'"no"': LOST}),
    ("pattern", {"type": "string", "pattern": "^[a-z]{2,3}(-[A-Z]{2})?$"}, ['"de"', '"deu"', '"de-AT"'], ['"d"', '"de-"', '"DE"', '"de-at"', '"de-AT-x"'], {}),
    ("pattern of alternatives", {"type": "string", "pattern": "^(\\([0-9]{1,3}\\))?[0-9]{3}-[0-9]{4}$"}, ['"(1)123-4567"', '"123-4567"'], ['"1234567"', '"()123-4567"'], {}),
    ("pattern with groups", {"type": "string", "pattern": "^(?:foo|bar)+baz$"}, ['"foobaz"', '"barfoobaz"'], ['"baz"', '"foo"'], {}),
    ("pattern with named group", {"type": "string", "pattern": "^(?<year>[0-9]{4})$"}, ['"2024"'], ['"24"', '"x"'], {"*": CLASSES}),
    ("pattern that searches", {"type": "string", "pattern": "b+"}, ['"b"', '"abbc"', '"\\"b\\""'], ['"a"', '""'], {"*": SEARCH}),
    ("pattern with one anchor", {"type": "string", "pattern": "^ab"}, ['"ab"', '"abc"'], ['"cab"', '"a"'], {"*": SEARCH}),
    ("pattern with an end", {"type": "string", "pattern": "ab$"}, ['"ab"', '"cab"'], ['"abc"', '"b"'], {"*": SEARCH}),
    ("pattern of anchored alternatives", {"type": "string", "pattern": "^a$|^b|c$"}, ['"a"', '"bx"', '"xc"'], ['"ax"', '"xb"', '"cx"'], {"*": SEARCH}),
    ("pattern with anchors in a group", {"type": "string", "pattern": "^(a|b)$"}, ['"a"', '"b"'], ['"ab"', '"c"'], {}),
    ("pattern with classes", {"type": "string", "pattern": "^\\d+\\.\\w+\\s?$"}, ['"1.a"', '"12.b_3 "', '"1.a\\n"'], ['"1a"', '"1."', '"x.y"'], {"*": CLASSES}),
    ("pattern with negations", {"type": "string", "pattern": "^[^0-9\"]\\D\\S$"}, ['"abc"', '"é\\"x"', '"\\\\\\\\x"'], ['"1bc"', '"\\"bc"', '"ab "', '"ab"'], {"*": CLASSES}),
    ("pattern with what JSON escapes", {"type": "string", "pattern": "^a\"b\\\\c\\n[\"\\\\/]$"}, ['"a\\"b\\\\c\\n\\""', '"a\\"b\\\\c\\n\\\\"', '"a\\"b\\\\c\\n/"'], ['"a"', '"abc"'], {"*": ESCAPES}),
    ("pattern with a dot", {"type": "string", "pattern": "^a.c$"}, ['"abc"', '"a\\"c"', '"a日c"', '"a\\tc"'], ['"ac"', '"a\\nc"', '"abbc"'], {"*": ESCAPES}),
    ("pattern with unicode", {"type": "string", "pattern": "^[\\u00e0-\\u00ff一-龥]+(\\uD83D\\uDE00)?$"}, ['"é日😀"', '"é"'], ['"e"', '""', '"😀"'], {"*": CLASSES}),
    ("pattern with lazy parts", {"type": "string", "pattern": "^a+?b*?c??$"}, ['"a"', '"aabbc"'], ['"b"', '"cc"'], {"*": CLASSES}),
    ("pattern of empty parts", {"type": "string", "pattern": "^((a?b?)*c?)+$"}, ['""', '"abba"', '"cabc"'], ['"d"', '"abd"'], {"*": "endless repetitions of what may be empty are rewritten"}),
    ("pattern with braces", {"type": "string", "pattern": "^a{2}b{1,}c{0,2}\\{x\\}$"}, ['"aab{x}"', '"aabbcc{x}"'], ['"ab{x}"', '"aabccc{x}"'], {}),
    ("pattern and lengths", {"type": "string", "pattern": "^[a-z][a-z0-9-]*$", "minLength": 2, "maxLength": 4}, ['"ab"', '"a-b1"'], ['"a"', '"abcde"', '"-a"'], {"*": LENGTH}),
    ("pattern that nothing enforces", {"type": "string", "pattern": "^(?=.*a)b+$"}, ['"bbb"', '"x"'], ["1"], {'"bbb"': LOST, '"x"': LOST}),
    ("pattern without type", {"pattern": "^a$"}, ['"a"'], ['"b"', "1"], {"1": TYPE}),
    ("not", {"type": "string", "not": {"const": "a"}}, ['"b"', '"a"'], ["1"], {'"a"': LOST}),
    ("if", {"type": "integer", "if": {"minimum": 5}, "then": {"maximum": 9}}, ["1", "7", "12"], ["1.5"], {"12": LOST}),
    ("unique items", {"type": "array", "items": INT, "uniqueItems": True}, ["[1,2]", "[1,1]"], ["[1.5]"], {"[1,1]": LOST}),
    ("multiple of 3", {"type": "integer", "multipleOf": 3}, ["3", "4"], ["1.5"], {"4": LOST}),
    ("impossible branch", {"anyOf": [{"type": "string", "minLength": 3, "maxLength": 2}, INT]}, ["1"], ['"ab"', '"abc"'], {"*": "branches that nothing satisfies are left out"}),
    ("impossible items", {"type": "array", "items": False}, ["[]"], ["[1]"], {"*": BOOLS}),
    ("tool call", obj({"name": {"const": "get_weather"}, "arguments": obj({"location": STR, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, ["location"])}, ["name", "arguments"]), ['{"name": "get_weather", "arguments": {"location": "Wien", "unit": "celsius"}}', '{"name":"get_weather","arguments":{"location":""}}'], ['{"name": "x", "arguments": {"location": "Wien"}}', '{"name": "get_weather", "arguments": {"unit": "celsius"}}', '{"name": "get_weather", "arguments": {"location": "Wien", "unit": "kelvin"}}'], {}),
    ("pydantic", {"$defs": {"Color": {"enum": ["red", "blue"], "title": "Color", "type": "string"}, "Item": {"properties": {"name": {"title": "Name", "type": "string"}, "price": {"exclusiveMinimum": 0, "title": "Price", "type": "number"}, "color": {"anyOf": [{"$ref": "#/$defs/Color"}, {"type": "null"}], "default": None}}, "required": ["name", "price"], "title": "Item", "type": "object"}}, "properties": {"items": {"items": {"$ref": "#/$defs/Item"}, "maxItems": 3, "minItems": 1, "title": "Items", "type": "array"}, "tags": {"additionalProperties": {"type": "string"}, "title": "Tags", "type": "object"}}, "required": ["items", "tags"], "title": "Order", "type": "object"}, ['{"items": [{"name": "a", "price": 1.5, "color": "red"}], "tags": {}}', '{"items": [{"name": "a", "price": 2}, {"name": "b", "price": 0.1, "color": null}], "tags": {"x": "y"}}'], ['{"items": [], "tags": {}}', '{"items": [{"name": "a", "price": 0}], "tags": {}}', '{"items": [{"name": "a", "price": 1, "color": "green"}], "tags": {}}', '{"items": [{"name": "a", "price": 1}]}'], {"*": RANGE}),
]

# llama.cpp's grammar of these takes all memory.
ENDLESS = ["pattern of empty parts", "impossible branch"]

# Schemas that are refused, and a piece of the message.
REFUSED = [
    ('{"type": ', "not JSON"), ("", "not JSON"), ("3", "#: expected a schema"), ('{"type": "text"}', "#/type"), ('{"type": []}', "#/type"), ('{"type": 1}', "#/type"),
    ('{"items": {"minLength": -1}}', "#/items/minLength"), ('{"type": "string", "maxLength": "x"}', "#/maxLength"), ('{"minItems": 1.5}', "#/minItems"),
    ('{"properties": {"a": {"$ref": "#/$defs/x"}}}', "#/properties/a/$ref"), ('{"$ref": "https://example.com/s.json"}', "only references into the schema itself"), ('{"$ref": "#anchor"}', "anchors"),
    ('{"$ref": "#"}', "itself"), ('{"anyOf": [{"$ref": "#"}]}', "itself"), ('{"allOf": [{"$ref": "#"}]}', "itself"), ('{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}', "itself"),
    ('{"anyOf": []}', "#/anyOf"), ('{"enum": []}', "#/enum"), ('{"enum": "a"}', "#/enum"), ('{"allOf": {}}', "#/allOf"), ('{"properties": []}', "#/properties"), ('{"required": "a"}', "#/required"), ('{"required": [1]}', "#/required"),
    ('{"pattern": "("}', "#/pattern"), ('{"pattern": "^(a$", "type": "string"}', "'(' without ')'"), ('{"pattern": 1}', "#/pattern"), ('{"properties": {"a": 3}}', "#/properties/a"), ("false", "no value satisfies"),
    ('{"type": "integer", "minimum": 3, "maximum": 2}', "no value satisfies"), ('{"type": "object", "properties": {"a": {"enum": [1], "type": "string"}}, "required": ["a"]}', "#/properties/a"),
    ('{"$dynamicRef": "#x"}', "$dynamicRef"), ('{"type": "integer", "minimum": 1e300}', "no value satisfies"), ('{"type": "integer", "minimum": "1"}', "#/minimum"), ('{"type": "number", "multipleOf": 0}', "#/multipleOf"),
    ('{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}', "no value satisfies"), ('{"prefixItems": {}}', "#/prefixItems"), ('{"type": "array", "minItems": 3, "maxItems": 2}', "no value satisfies"),
]

STUBS = r"""
#include "json-schema-to-grammar.h"
#include "common.h"
#include <iostream>
#include <cstdlib>
std::string string_repeat(const std::string & s, size_t n) { std::string r; while (n--) r += s; return r; }
std::string string_join(const std::vector<std::string> & v, const std::string & sep) {
    std::string r; for (size_t i = 0; i < v.size(); i++) { if (i) r += sep; r += v[i]; } return r; }
std::vector<std::string> string_split(const std::string & s, const std::string & d) {
    std::vector<std::string> r; size_t a = 0, b;
    while ((b = s.find(d, a)) != std::string::npos) { r.push_back(s.substr(a, b - a)); a = b + d.size(); }
    r.push_back(s.substr(a)); return r; }
extern "C" void ggml_abort(const char *, int, const char *, ...) { abort(); }
int main() {
    std::string text(std::istreambuf_iterator<char>(std::cin), {});
    try { std::cout << json_schema_to_grammar(common_json::parse(text), true); return 0; }
    catch (const std::exception & e) { std::cerr << e.what() << "\n"; return 1; }
}
"""


def converter(tree, folder):
    """llama.cpp's converter as a program from schemas to grammars; `tree` may be one made before."""
    main = pathlib.Path(folder) / "main.cpp"
    main.write_text(STUBS)
    sources = [tree / "common" / f"{name}.cpp" for name in ("json-schema-to-grammar", "json-schema", "unicode", "trie", "json")]
    include = [f"-I{tree / part}" for part in ("common", "include", "ggml/include", "vendor")]
    program = tree if tree.is_file() else main.with_suffix("")
    if program != tree:
        sources = [source for source in sources if source.exists()]
        subprocess.run(["c++", "-std=c++17", *include, main, *sources, "-o", program], check=True)

    def convert(schema):
        done = subprocess.run([program], input=json.dumps(schema).encode(), capture_output=True)
        return done.stdout if done.returncode == 0 else None

    return convert


class Follower:
    """Follows texts byte by byte through grammars of llama.cpp."""

    def __init__(self):
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(DATA / "vocabs" / VOCAB).encode(), params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.eos = llama_cpp.llama_vocab_eos(self.vocab)
        self.bytes = {}
        room = ctypes.create_string_buffer(300)
        for token in range(llama_cpp.llama_vocab_n_tokens(self.vocab)):
            if llama_cpp.llama_token_to_piece(self.vocab, token, room, 300, 0, True) == 1:
                self.bytes.setdefault(room.raw[0], token)

    def allowed(self, sampler, token):
        rows = (llama_cpp.llama_token_data * 1)(llama_cpp.llama_token_data(token, 0.0, 0.0))
        array = llama_cpp.llama_token_data_array(rows, 1, -1, False)
        llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
        return rows[0].logit == 0.0

    def accepts(self, grammar, text):
        sampler = llama_cpp.llama_sampler_init_grammar(self.vocab, grammar, b"root")
        if not sampler:
            return None
        try:
            for byte in text.encode():
                if not self.allowed(sampler, self.bytes[byte]):
                    return False
                llama_cpp.llama_sampler_accept(sampler, self.bytes[byte])
            return self.allowed(sampler, self.eos)
        finally:
            llama_cpp.llama_sampler_free(sampler)


def is_valid(schema, text):
    def refuse(name):
        raise ValueError(name)

    try:
        value = json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    # Regular expressions of ECMA-262 as Python writes them.
    as_python = json.dumps(schema).replace("(?<year>", "(?P<year>").replace("\\\\uD83D\\\\uDE00", "\\U0001F600")
    schema = json.loads(as_python.replace("\\U0001F600", "\\ud83d\\ude00"))
    cls = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    cls.check_schema(schema)
    return cls(schema, format_checker=cls.FORMAT_CHECKER).is_valid(value)


def check_ours(follower, library):
    """llama.cpp follows the grammars that a libpowerinfer.so makes as our own matcher does."""
    convert = ctypes.CDLL(library).powerinfer_json_schema_to_grammar
    bad = 0
    for name, schema, yes, no, _ in CASES:
        text, room = json.dumps(schema).encode(), ctypes.create_string_buffer(1 << 20)
        n = convert(text, room, len(room))
        for text, ours in [(t, True) for t in yes] + [(t, False) for t in no]:
            theirs = follower.accepts(room.raw[:n], text) if n > 0 else None
            if theirs != ours:
                print(f"{name}: {text[:80]}: ours {ours}, llama.cpp {theirs}")
                bad += 1
    return bad


def main():
    @llama_cpp.llama_log_callback
    def quiet(level, text, data):
        pass

    llama_cpp.llama_log_set(quiet, None)
    follower = Follower()
    if sys.argv[1] == "--ours":
        sys.exit(check_ours(follower, sys.argv[2]))
    out, bad = [], 0
    with tempfile.TemporaryDirectory() as folder:
        convert = converter(pathlib.Path(sys.argv[1]), folder)
        for name, schema, yes, no, why in CASES:
            grammar = convert(schema) if name not in ENDLESS else None
            texts = []
            for text, ours in [(t, True) for t in yes] + [(t, False) for t in no]:
                valid = is_valid(schema, text)
                theirs = follower.accepts(grammar, text) if grammar is not None else None
                differs = ours != valid or (theirs is not None and ours != theirs)
                reason = why.get(text, why.get("*")) if differs else None
                if differs and reason is None:
                    print(f"{name}: {text}: ours {ours}, valid {valid}, llama.cpp {theirs}: why?", file=sys.stderr)
                    bad += 1
                entry = {"text": text, "accepted": ours, "valid": valid, "llama_cpp": theirs}
                texts.append({**entry, "why": reason} if reason else entry)
            if stray := [t for t in why if t != "*" and t not in [e["text"] for e in texts if "why" in e]]:
                print(f"{name}: nothing differs for {stray}", file=sys.stderr)
                bad += 1
            out.append({"name": name, "schema": json.dumps(schema, ensure_ascii=False), "texts": texts})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in out)
    refused = ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in REFUSED)
    origin = "llama.cpp of llama-cpp-python 0.3.36, jsonschema 4.26, tests/tools/schema_goldens.py"
    print(f'{{"origin": "{origin}", "cases": [\n{lines}\n], "refused": [\n{refused}\n]}}')
    sys.exit(bad > 0)


main()
