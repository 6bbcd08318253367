/* What a session took, in tables on stderr. */
#ifndef POWERINFER_EXAMPLES_REPORT_H
#define POWERINFER_EXAMPLES_REPORT_H

#include "session.h"

/* Times, tokens and memory. */
void report_times(const struct session *s, enum stop why);

/* What each layer that can skip neurons skipped while generating. */
void report_layers(const struct session *s);

#endif
