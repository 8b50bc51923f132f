// The field for a filter, with what may come next below it (a combobox, as ARIA has it).
import { useId, useRef, useState } from "preact/hooks";
import { type FieldOf, completions } from "./fields";

export function Filter(props: {
  value: string;
  fields: FieldOf[];
  change: (text: string) => void;
  go: () => void;
}) {
  const { value, fields, change, go } = props;
  const [isOpen, setOpen] = useState(false);
  const [chosen, setChosen] = useState(-1);
  const [cursor, setCursor] = useState(0);
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  const { from, choices } = completions(value, cursor, fields);
  const isShown = isOpen && choices.length > 0;
  const take = (text: string) => {
    const made = `${value.slice(0, from)}${text}`;
    const isText = text === "''";
    const at = made.length + (isText ? -1 : 1);
    change(`${made}${isText ? "" : " "}${value.slice(cursor)}`);
    setChosen(-1);
    requestAnimationFrame(() => {
      input.current?.focus();
      input.current?.setSelectionRange(at, at);
      setCursor(at);
    });
  };
  const pressed = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (choices.length === 0) return;
      event.preventDefault();
      setOpen(true);
      const step = event.key === "ArrowDown" ? 1 : -1;
      const count = choices.length;
      setChosen(isShown ? (chosen + step + count + (chosen < 0 && step < 0 ? 1 : 0)) % count : 0);
    } else if (event.key === "Escape" && isShown) {
      event.preventDefault();
      setOpen(false);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (isShown && chosen >= 0) take(choices[chosen].text);
      else {
        setOpen(false);
        go();
      }
    }
  };
  return (
    <div class="filter">
      <input
        ref={input}
        type="text"
        role="combobox"
        aria-label="Filter"
        aria-expanded={isShown}
        aria-controls={id}
        aria-autocomplete="list"
        aria-activedescendant={isShown && chosen >= 0 ? `${id}-${chosen}` : undefined}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
        placeholder="filter: name eq 'a*' and counter ge 5"
        value={value}
        onInput={(event) => {
          change(event.currentTarget.value);
          setCursor(event.currentTarget.selectionStart ?? 0);
          setChosen(-1);
          setOpen(true);
        }}
        onFocus={(event) => {
          setCursor(event.currentTarget.selectionStart ?? 0);
          setOpen(true);
        }}
        onClick={(event) => setCursor(event.currentTarget.selectionStart ?? 0)}
        onKeyUp={(event) => setCursor(event.currentTarget.selectionStart ?? 0)}
        onBlur={() => setOpen(false)}
        onKeyDown={pressed}
      />
      <ul role="listbox" id={id} hidden={!isShown} aria-label="What may come here">
        {choices.map((choice, at) => (
          <li
            role="option"
            id={`${id}-${at}`}
            key={choice.text}
            aria-selected={at === chosen}
            onMouseDown={(event) => {
              event.preventDefault();
              take(choice.text);
            }}
          >
            <code>{choice.text}</code> <span class="quiet">{choice.about}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
