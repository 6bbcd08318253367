// The files of the web page, compiled in (embed.cmake writes them from the folder page).
#pragma once

#include <cstddef>

struct page_file {
    const char *name;
    const unsigned char *data;
    size_t size;
};

extern const page_file page_files[];
extern const size_t n_page_files;
