/* Streams texts in two pieces, cut at every place, and checks what was written at each moment:
 * all whole characters, never a part of one. Malformed text must come out as it went in. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

static size_t written(FILE *file, char *out, size_t cap) {
    fflush(file);
    rewind(file);
    return fread(out, 1, cap, file);
}

static bool begins_character(const char *text, size_t at) {
    return ((unsigned char)text[at] & 0xC0) != 0x80;
}

int main(void) {
    /* 1, 2, 3 and 4 byte characters in all orders that matter. */
    static const char *const good[] = {"plain", "\xC3\xB6\xC3\xA4", "a\xE2\x82\xAC" "b",
                                       "\xF0\x9F\x99\x82", "x\xF0\x9F\x99\x82\xC3\xB6\xE2\x82\xAC"};
    /* A lone following byte, a cut character before another, an impossible byte. */
    static const char *const bad[] = {"\x80" "a", "\xE2\x82" "a", "\xF0\x9F\xC3\xB6", "\xFF" "a",
                                      "a\xC3"};
    char out[64];

    for (size_t t = 0; t < sizeof good / sizeof *good; t++) {
        size_t len = strlen(good[t]);
        for (size_t cut = 0; cut <= len; cut++) {
            FILE *file = tmpfile();
            if (!file) die("no temporary file");
            struct utf8_stream stream = {0};
            utf8_write(&stream, file, good[t], cut);
            size_t got = written(file, out, sizeof out), whole = cut;
            while (whole > 0 && whole < len && !begins_character(good[t], whole)) whole--;
            if (got != whole) die("text %zu cut at %zu: %zu bytes, expected %zu", t, cut, got, whole);
            utf8_write(&stream, file, good[t] + cut, len - cut);
            got = written(file, out, sizeof out);
            if (got != len || memcmp(out, good[t], len)) die("text %zu cut at %zu: changed", t, cut);
            if (stream.len) die("text %zu cut at %zu: bytes still wait", t, cut);
            fclose(file);
        }
    }
    for (size_t t = 0; t < sizeof bad / sizeof *bad; t++) {
        FILE *file = tmpfile();
        if (!file) die("no temporary file");
        struct utf8_stream stream = {0};
        size_t len = strlen(bad[t]);
        for (size_t i = 0; i < len; i++) utf8_write(&stream, file, bad[t] + i, 1);
        utf8_flush(&stream, file);
        size_t got = written(file, out, sizeof out);
        if (got != len || memcmp(out, bad[t], len)) die("malformed text %zu: changed", t);
        fclose(file);
    }
    return 0;
}
