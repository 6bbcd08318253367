// ggml-opt.h of libpowerinfer: everything is in one file.
#pragma once

#include "powerinfer-abi.h"
