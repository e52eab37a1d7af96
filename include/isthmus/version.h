/* The version of this build, as `git describe` named it. Any thread. */
#ifndef ISTHMUS_VERSION_H
#define ISTHMUS_VERSION_H

const char *isthmus_version(void);

#endif
