#include "page.h"

#include "app.h"

static const char *type_of(const std::string &name) {
    std::string ending = name.substr(name.rfind('.') + 1);
    if (ending == "html") return "text/html; charset=utf-8";
    if (ending == "js") return "text/javascript; charset=utf-8";
    if (ending == "css") return "text/css; charset=utf-8";
    if (ending == "svg") return "image/svg+xml";
    return "application/octet-stream";
}

void add_page(http_server &http) {
    for (size_t i = 0; i < n_page_files; i++) {
        const page_file &file = page_files[i];
        std::string name = file.name, content(reinterpret_cast<const char *>(file.data), file.size), path = "/";
        // Paths are regular expressions.
        for (char c : name == "index.html" ? "" : name) path += c == '.' ? std::string("\\.") : std::string(1, c);
        http.page(path, type_of(name), content);
    }
}
