/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bus/handle-words.h"

HandlePhase handle_phase(MicrovmState state, MicrovmReadiness readiness, bool again)
{
    switch (state) {
    case MICROVM_INACTIVE:
        return HANDLE_OFF;
    case MICROVM_FAILED:
        return HANDLE_FAILED;
    case MICROVM_RUNNING:
    case MICROVM_PAUSED:
        /* One that is late is kept, and one whose readiness is lost still runs: the status says so. */
        return readiness == MICROVM_READINESS_WAITING ? HANDLE_COMING : HANDLE_UP;
    case MICROVM_STOPPING:
        return again ? HANDLE_COMING : HANDLE_STOPPING;
    default:
        return HANDLE_COMING;
    }
}

HandleOrder handle_order(HandlePhase phase, const HandleLook *look, bool now)
{
    if (handle_is_wanted(phase))
        return look->told ? HANDLE_NO_ORDER : now ? HANDLE_ORDER_START : HANDLE_ORDER_LATER;
    /* It failed before its handle was there: that is started, to fail. */
    if (phase == HANDLE_FAILED && look->due)
        return HANDLE_ORDER_START;
    if (!look->told)
        return HANDLE_NO_ORDER;
    if (phase == HANDLE_STOPPING)
        return HANDLE_ORDER_STOP;
    /* A process that can end by itself does; one that has not said yet that it is ready can't, without
     * counting as failed. */
    if (look->connected ? look->ready || phase == HANDLE_FAILED : phase == HANDLE_FAILED && look->starts)
        return HANDLE_NO_ORDER;
    return HANDLE_ORDER_STOP;
}

static HandleWords leave(HandlePhase phase, const HandleTalk *talk)
{
    if (phase == HANDLE_STOPPING || (!talk->ready && !talk->asked))
        return (HandleWords){.code = -1};
    /* Off, or on its way again: that is for the next process. */
    return (HandleWords){.code = phase == HANDLE_FAILED};
}

HandleWords handle_words(HandlePhase phase, HandleTalk *talk)
{
    HandleWords words = {.code = -1};

    if (talk->leaving)
        return leave(phase, talk);
    if (phase == HANDLE_OFF || phase == HANDLE_FAILED) {
        words.code = phase == HANDLE_FAILED || !talk->ready;
    } else if (phase == HANDLE_UP && (!talk->told_ready || talk->reloading)) {
        words.notify = "READY=1";
        talk->ready = talk->told_ready = true;
        talk->reloading = false;
    } else if (phase == HANDLE_COMING && talk->ready && !talk->reloading) {
        words.notify = "RELOADING=1";
        talk->reloading = true;
    }
    return words;
}
