// Asking from within a part of the page: once, or again and again while it is looked at.
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { type Answer, type Ask, Failed, curl, send } from "./api";

export interface Asked {
  /** The last answer that was a success; it stays while later ones fail. */
  answer: Answer | null;
  failed: Failed | null;
  isWaiting: boolean;
  again: () => void;
  ask: Ask | null;
}

/**
 * Asks when the request is another one, and again every so many milliseconds; not while nobody
 * looks at the page. `null` asks nothing.
 */
export function useAsk(ask: Ask | null, everyMs = 0): Asked {
  const [state, setState] = useState<{ key: string; answer: Answer | null; failed: Failed | null }>(
    { key: "", answer: null, failed: null },
  );
  const [round, setRound] = useState(0);
  const key = ask === null ? "" : curl(ask);
  const latest = useRef(key);
  latest.current = key;
  useEffect(() => {
    if (ask === null) return undefined;
    const stop = new AbortController();
    let timer = 0;
    const next = () => {
      if (everyMs > 0 && !stop.signal.aborted) timer = window.setTimeout(turn, everyMs);
    };
    const turn = async () => {
      if (document.hidden && everyMs > 0) return next();
      try {
        const answer = await send(ask, stop.signal);
        if (latest.current === key) setState({ key, answer, failed: null });
      } catch (error) {
        if (stop.signal.aborted) return undefined;
        const failed = error instanceof Failed ? error : new Failed(0, "", String(error));
        setState((was) => ({ key, answer: was.key === key ? was.answer : null, failed }));
      }
      return next();
    };
    void turn();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [key, everyMs, round]);
  const again = useCallback(() => setRound((was) => was + 1), []);
  const isNew = state.key !== key;
  return {
    answer: isNew ? null : state.answer,
    failed: isNew ? null : state.failed,
    isWaiting: ask !== null && isNew,
    again,
    ask,
  };
}

/** Whether a component is still there when an answer comes. */
export function useIsThere(): () => boolean {
  const there = useRef(true);
  useEffect(() => {
    there.current = true;
    return () => {
      there.current = false;
    };
  }, []);
  return () => there.current;
}
