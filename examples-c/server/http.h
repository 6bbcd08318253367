// HTTP on cpp-httplib: limits, keys, origins, errors as JSON, streams, clients that go away.
#pragma once

#include "requests.h"
#include "support.h"

#include <httplib.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

struct http_options {
    std::string host = "127.0.0.1";
    int64_t port = 8080; // 0: any that is free
    std::vector<std::string> keys;    // who has none of them is refused; empty: anybody
    std::vector<std::string> origins; // web pages of these origins may call; "*": all
    int64_t most_body = 16 << 20;     // bytes
    int64_t idle_seconds = 60;        // a connection on which nothing moves is closed
    int64_t n_threads = 64;           // connections at a time
    std::string certificate, private_key; // files; empty: no TLS
    bool log = false;                 // a line for each request
};

class http_server {
public:
    explicit http_server(http_options what);

    using handler = std::function<json(const httplib::Request &, const json &body)>;
    // Answers with JSON. `open`: without a key.
    void get(const std::string &path, handler make, bool open = false);
    void post(const std::string &path, handler make);
    // Answers what an engine writes.
    void generate(const std::string &path, const std::atomic<engine *> *core,
                  std::function<work(const json &body)> make);
    // Another content than JSON.
    void get_text(const std::string &path, const char *type,
                  std::function<std::string(const httplib::Request &)> make);
    // A file of the web page; open to all.
    void page(const std::string &path, const char *type, std::string content);

    // Opens the port, or dies; then answers on threads of its own until stop(), which lets those that
    // are being answered have the rest.
    void start();
    void stop();
    int port() const { return bound; }
    // Until then requests are told to come back.
    void ready() { is_ready = true; }

private:
    using raw_handler = std::function<void(const httplib::Request &, httplib::Response &)>;
    raw_handler guarded(raw_handler inner, bool open) const;
    void check_allowed(const httplib::Request &req, bool open) const;
    std::string read_body(const httplib::Request &req, const httplib::Response &res,
                          const httplib::ContentReader &reader) const;
    bool allowed_origin(const httplib::Request &req, const std::string &origin) const;

    http_options options;
    std::unique_ptr<httplib::Server> server;
    std::function<void()> widen; // the queue of connections that wait to be accepted
    std::thread listener;
    int bound = 0;
    std::atomic<bool> is_ready{false};
};
