// What the endpoints work with, and their registration.
#pragma once

#include "embedder.h"
#include "engine.h"
#include "http.h"
#include "requests.h"

#include <string>

struct app_options {
    std::string model_path, name; // name: what clients call the model
    std::string slot_folder;      // where slots may be saved; empty: nowhere
    int64_t prompt_chunk = 256;   // tokens of prompts in a step while answers are being written
    bool show_slots = true, show_metrics = true;
};

// Filled when the model is loaded; before that requests do not get here.
struct app {
    app_options options;
    llama_model *model = nullptr;
    vocabulary *vocab = nullptr;
    std::atomic<engine *> core{nullptr};
    request_reader *requests = nullptr;
    embedder *vectors = nullptr;
    int64_t started = 0; // Unix time

    engine &running() const { return *core.load(); }
};

// All endpoints; those of generate() ask for a model that can write.
void add_endpoints(http_server &http, app &of);
void add_slot_endpoints(http_server &http, app &of);
void add_embedding_endpoints(http_server &http, app &of);
void add_metric_endpoints(http_server &http, app &of);
void add_page(http_server &http);
