#include "http.h"

extern "C" {
#include "common.h"
}

#include <filesystem>

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

// ---- the client at the other end ----

namespace {

// httplib does not show the socket of a request; its peer's address finds it among our files.
class client {
public:
    explicit client(const httplib::Request &req) {
        std::error_code none;
        for (const auto &entry : std::filesystem::directory_iterator("/dev/fd", none)) {
            int number = std::atoi(entry.path().filename().c_str());
            if (is_peer(number, req)) fd = number;
        }
    }

    // It closed its side, or the connection broke.
    bool gone() const {
#ifdef POLLRDHUP
        short closed = POLLRDHUP;
#else
        short closed = 0;
#endif
        pollfd one{fd, closed, 0};
        return fd >= 0 && poll(&one, 1, 0) > 0 && (one.revents & (closed | POLLHUP | POLLERR));
    }

private:
    static bool is_peer(int number, const httplib::Request &req) {
        sockaddr_storage address{};
        socklen_t size = sizeof address;
        auto *generic = reinterpret_cast<sockaddr *>(&address);
        char host[NI_MAXHOST], port[NI_MAXSERV];
        return number > 2 && getpeername(number, generic, &size) == 0 &&
               getnameinfo(generic, size, host, sizeof host, port, sizeof port,
                           NI_NUMERICHOST | NI_NUMERICSERV) == 0 &&
               std::atoi(port) == req.remote_port && req.remote_addr == host;
    }

    int fd = -1;
};

// The time that it takes does not tell how much of a key was right.
bool same_key(const std::string &given, const std::string &key) {
    unsigned differ = given.size() == key.size() ? 0 : 1;
    for (size_t i = 0; i < key.size(); i++) {
        unsigned char theirs = given.empty() ? 0 : static_cast<unsigned char>(given[i % given.size()]);
        differ |= theirs ^ static_cast<unsigned char>(key[i]);
    }
    return differ == 0;
}

void answer_with(httplib::Response &res, int status, const json &body) {
    res.status = status;
    res.set_content(dump(body), "application/json; charset=utf-8");
}

void answer_with(httplib::Response &res, const fault &what) {
    answer_with(res, what.status, what.body());
    if (what.status == 503) res.set_header("Retry-After", "1");
    // OpenAI's packages ask again after any 5xx, but not after this.
    if (what.status == 501) res.set_header("X-Should-Retry", "false");
    if (what.status == 401) res.set_header("WWW-Authenticate", "Bearer");
}

template <class Base> struct wide : Base {
    using Base::Base;
    // httplib lets 5 connections wait, which many clients at once overrun.
    void widen() { ::listen(this->svr_sock_, 1024); }
};

} // namespace

// ---- set-up ----

http_server::http_server(http_options what) : options(std::move(what)) {
    auto take = [&](auto made) {
        widen = [raw = made.get()] { raw->widen(); };
        server = std::move(made);
    };
    if (options.certificate.empty()) {
        take(std::make_unique<wide<httplib::Server>>());
    } else {
#ifdef CPPHTTPLIB_OPENSSL_SUPPORT
        take(std::make_unique<wide<httplib::SSLServer>>(options.certificate.c_str(), options.private_key.c_str()));
#else
        die("this program was built without OpenSSL: it cannot serve https");
#endif
    }
    if (!server->is_valid()) die("cannot use the certificate '%s' with the key '%s'",
                                 options.certificate.c_str(), options.private_key.c_str());
    auto n = static_cast<size_t>(options.n_threads);
    server->new_task_queue = [n] { return new httplib::ThreadPool(n); };
    server->set_payload_max_length(static_cast<size_t>(options.most_body));
    server->set_read_timeout(options.idle_seconds);
    server->set_write_timeout(options.idle_seconds);
    server->set_keep_alive_timeout(5);
    server->set_keep_alive_max_count(1000);
    server->set_tcp_nodelay(true);
    // Without httplib's SO_REUSEPORT, by which two servers would share a port unnoticed.
    server->set_socket_options([](socket_t socket) {
        int yes = 1;
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    server->set_default_headers({{"Server", "powerinfer"}, {"X-Content-Type-Options", "nosniff"}});

    // Answers without a body are httplib's own: no such path, a body too large, no HTTP.
    server->set_error_handler([](const httplib::Request &req, httplib::Response &res) {
        if (!res.body.empty()) return;
        bool absent = res.status == 404, large = res.status == 413;
        answer_with(res, fault(res.status, absent ? "not_found_error" : "invalid_request_error",
                               absent  ? "there is no '" + req.path + "'"
                               : large ? "the body is too large"
                                       : "the request is malformed"));
    });
    server->set_post_routing_handler([this](const httplib::Request &req, httplib::Response &res) {
        std::string origin = req.get_header_value("Origin");
        if (origin.empty() || !allowed_origin(req, origin)) return;
        res.set_header("Access-Control-Allow-Origin", origin);
        res.set_header("Vary", "Origin");
    });
    server->Options(".*", [this](const httplib::Request &req, httplib::Response &res) {
        res.status = 204;
        if (!allowed_origin(req, req.get_header_value("Origin"))) return;
        res.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
        res.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type");
        res.set_header("Access-Control-Max-Age", "600");
    });
    if (options.log)
        server->set_logger([](const httplib::Request &req, const httplib::Response &res) {
            say("%s %s %s %d", req.remote_addr.c_str(), req.method.c_str(), req.path.c_str(), res.status);
        });
}

void http_server::start() {
    auto host = options.host.c_str();
    bound = static_cast<int>(options.port);
    if (options.port == 0) bound = server->bind_to_any_port(options.host);
    else if (!server->bind_to_port(options.host, bound)) bound = -1;
    if (bound < 0) die("cannot listen on %s, port %d", host, static_cast<int>(options.port));
    widen();
    listener = std::thread([this] { server->listen_after_bind(); });
}

// ---- who may ----

// Pages of other origins may only call when they were allowed to: a browser sends their requests
// here even if it then keeps the answer from them.
bool http_server::allowed_origin(const httplib::Request &req, const std::string &origin) const {
    for (const std::string &one : options.origins)
        if (one == "*" || one == origin) return true;
    std::string host = req.get_header_value("Host");
    return origin == "http://" + host || origin == "https://" + host;
}

void http_server::check_allowed(const httplib::Request &req, bool open) const {
    std::string origin = req.get_header_value("Origin");
    if (!origin.empty() && !allowed_origin(req, origin))
        throw fault(403, "permission_error", "pages of " + origin + " may not call (--cors)");
    if (open || options.keys.empty()) return;
    std::string given = req.get_header_value("X-Api-Key"), line = req.get_header_value("Authorization");
    if (line.compare(0, 7, "Bearer ") == 0) given = line.substr(7);
    bool right = false;
    for (const std::string &key : options.keys) right |= same_key(given, key);
    if (!right) throw fault(401, "authentication_error", "the API key is missing or wrong");
}

http_server::raw_handler http_server::guarded(raw_handler inner, bool open) const {
    return [this, inner = std::move(inner), open](const httplib::Request &req, httplib::Response &res) {
        try {
            check_allowed(req, open);
            if (!is_ready && !open) throw fault(503, "unavailable_error", "the model is being loaded");
            inner(req, res);
        } catch (const fault &what) {
            answer_with(res, what);
        } catch (const json::exception &what) {
            answer_with(res, fault::bad(what.what()));
        } catch (const std::bad_alloc &) {
            answer_with(res, fault(500, "server_error", "out of memory"));
        } catch (const std::exception &what) {
            answer_with(res, fault(500, "server_error", what.what()));
        }
    };
}

std::string http_server::read_body(const httplib::Request &req, const httplib::Response &res,
                                   const httplib::ContentReader &reader) const {
    if (!req.has_header("Content-Length") && !req.has_header("Transfer-Encoding")) return "";
    if (req.is_multipart_form_data()) throw fault(415, "invalid_request_error", "forms are not understood: send JSON");
    std::string body;
    bool large = false, slow = false;
    auto most = static_cast<size_t>(options.most_body);
    steady::time_point start = steady::now();
    bool whole = reader([&](const char *data, size_t size) {
        large = body.size() + size > most; // also what was compressed
        slow = ms_since(start) > 1000.0 * static_cast<double>(options.idle_seconds);
        if (large || slow) return false;
        body.append(data, size);
        return true;
    });
    if (large || res.status == 413) throw fault(413, "invalid_request_error", "the body is too large");
    if (slow) throw fault(408, "timeout_error", "the body came too slowly");
    if (!whole) throw fault::bad("the body did not arrive");
    return body;
}

// ---- plain answers ----

void http_server::get(const std::string &path, handler make, bool open) {
    server->Get(path, guarded([make](const httplib::Request &req, httplib::Response &res) {
        answer_with(res, 200, make(req, nullptr));
    }, open));
}

void http_server::get_text(const std::string &path, const char *type,
                           std::function<std::string(const httplib::Request &)> make) {
    server->Get(path, guarded([make, type](const httplib::Request &req, httplib::Response &res) {
        res.set_content(make(req), type);
    }, false));
}

void http_server::page(const std::string &path, const char *type, std::string content) {
    server->Get(path, [type, content = std::move(content)](const httplib::Request &, httplib::Response &res) {
        res.set_content(content, type);
        res.set_header("Cache-Control", "no-cache");
        res.set_header("Referrer-Policy", "no-referrer");
        res.set_header("Content-Security-Policy",
                       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                       "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    });
}

void http_server::post(const std::string &path, handler make) {
    server->Post(path, [this, make](const httplib::Request &req, httplib::Response &res,
                                    const httplib::ContentReader &reader) {
        guarded([&](const httplib::Request &, httplib::Response &) {
            std::string body = read_body(req, res, reader);
            answer_with(res, 200, make(req, body.empty() ? json::object() : parse_json(body)));
        }, false)(req, res);
    });
}

// ---- what is being written ----

namespace {

std::atomic<int> n_running{0};

// A request that is being answered, as httplib's threads see it.
struct running {
    work job;
    client peer;
    std::vector<json> ahead; // to be sent first
    steady::time_point last_sent = steady::now();

    running(work what, const httplib::Request &req) : job(std::move(what)), peer(req) { n_running++; }
    ~running() {
        job.out->cancel();
        n_running--;
    }

    // The next event; nothing when the client is gone or, with a limit, when none came in time.
    std::optional<event> next(double most_ms = 1e300) {
        steady::time_point start = steady::now();
        while (!peer.gone() && ms_since(start) < most_ms)
            if (auto one = job.out->take(50)) return one;
        return std::nullopt;
    }
};

const double quiet_ms = 15000;   // then a stream shows that it is alive
const double patience_ms = 1000; // then a stream begins without its first event

void answer_whole(running &one, httplib::Response &res) {
    while (!one.job.form->complete()) {
        std::optional<event> now = one.next();
        if (!now) { // nobody reads this
            res.status = 499;
            return;
        }
        if (now->failed) throw *now->failed;
        one.job.form->take(std::move(*now), false);
    }
    answer_with(res, 200, one.job.form->whole());
}

// Sends what is there. False: the stream has ended.
bool send_some(running &one, httplib::DataSink &sink) {
    auto send = [&](const std::string &text) {
        one.last_sent = steady::now();
        return sink.write(text.data(), text.size());
    };
    std::string text;
    if (one.ahead.empty()) {
        std::optional<event> now = one.next(100);
        if (!now && one.peer.gone()) return false;
        if (!now) return ms_since(one.last_sent) < quiet_ms || send(": waiting\n\n");
        if (now->failed) {
            send("data: " + dump(now->failed->body()) + "\n\n");
            sink.done();
            return true;
        }
        one.ahead = one.job.form->take(std::move(*now), true);
    }
    for (const json &chunk : std::exchange(one.ahead, {})) text += "data: " + dump(chunk) + "\n\n";
    bool complete = one.job.form->complete();
    if (complete) {
        for (const json &chunk : one.job.form->closing()) text += "data: " + dump(chunk) + "\n\n";
        if (one.job.form->ends_with_done()) text += "data: [DONE]\n\n";
    }
    if (!text.empty() && !send(text)) return false;
    if (complete) sink.done();
    return true;
}

} // namespace

void http_server::generate(const std::string &path, const std::atomic<engine *> *core,
                           std::function<work(const json &body)> make) {
    auto answer = [core, make](const std::string &body, const httplib::Request &req, httplib::Response &res) {
        auto one = std::make_shared<running>(make(parse_json(body)), req);
        core->load()->submit(std::move(one->job.tasks));
        if (!one->job.stream) return answer_whole(*one, res);
        // What goes wrong at once has a status of its own.
        if (auto first = one->next(patience_ms)) {
            if (first->failed) throw *first->failed;
            one->ahead = one->job.form->take(std::move(*first), true);
        }
        res.set_header("Cache-Control", "no-cache");
        res.set_header("X-Accel-Buffering", "no");
        res.set_chunked_content_provider("text/event-stream", [one](size_t, httplib::DataSink &sink) {
            return send_some(*one, sink);
        });
    };
    server->Post(path, [this, answer](const httplib::Request &req, httplib::Response &res,
                                      const httplib::ContentReader &reader) {
        guarded([&](const httplib::Request &, httplib::Response &) {
            answer(read_body(req, res, reader), req, res);
        }, false)(req, res);
    });
}

void http_server::stop() {
    // httplib cuts streams off; what was written already is to arrive.
    steady::time_point start = steady::now();
    while (n_running && ms_since(start) < 5000) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    server->stop();
    if (listener.joinable()) listener.join();
}
