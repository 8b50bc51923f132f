// Logging in, where a node asks for it.
import { useState } from "preact/hooks";
import { Failed, hasToken, logIn, logOut, needsLogin, security, send, useToken } from "./api";
import { useStore } from "./store";
import { Problem, TextField, useTitle } from "./ui";

export function Login() {
  useTitle("Log in");
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [token, setToken] = useState("");
  const [failed, setFailed] = useState<Failed | null>(null);
  const [isWaiting, setWaiting] = useState(false);
  const attempt = async (work: () => Promise<void>) => {
    setWaiting(true);
    setFailed(null);
    try {
      await work();
    } catch (error) {
      setFailed(error instanceof Failed ? error : new Failed(0, "", String(error)));
      setPassword("");
    }
    setWaiting(false);
  };
  const withPassword = (event: Event) => {
    event.preventDefault();
    void attempt(() => logIn(user, password));
  };
  const withToken = (event: Event) => {
    event.preventDefault();
    void attempt(async () => {
      useToken(token);
      try {
        await send({ path: "/core/authn/whoami" });
        needsLogin.set(false);
      } catch (error) {
        useToken("");
        throw error;
      }
    });
  };
  return (
    <main class="login" id="main">
      <h1>Log in</h1>
      <p class="quiet">This cluster wants to know who asks.</p>
      <form onSubmit={withPassword}>
        <TextField
          label="User"
          name="user"
          autocomplete="username"
          autocapitalize="off"
          autofocus
          required
          value={user}
          set={setUser}
        />
        <TextField
          label="Password"
          type="password"
          name="password"
          autocomplete="current-password"
          required
          value={password}
          set={setPassword}
        />
        <button type="submit" class="primary" disabled={isWaiting}>
          Log in
        </button>
      </form>
      {failed && <Problem failed={failed} />}
      <details>
        <summary>With a token</summary>
        <form onSubmit={withToken}>
          <TextField
            label="Token (kept in this tab only)"
            type="password"
            autocomplete="off"
            required
            value={token}
            set={setToken}
          />
          <button type="submit" disabled={isWaiting}>
            Go on with it
          </button>
        </form>
      </details>
    </main>
  );
}

/** Who is logged in, and the way out. */
export function Who({ user }: { user: string | null }) {
  const { isOn } = useStore(security);
  const [failed, setFailed] = useState<string>("");
  if (!isOn) return <span class="quiet">no login here</span>;
  const leave = async () => {
    // A token of this tab is only forgotten: other programs may use it, too.
    if (hasToken()) useToken("");
    else {
      try {
        await logOut();
      } catch (error) {
        // Whoever comes next would still be in: a login that does not count any more is over.
        if (!(error instanceof Failed && error.status === 401)) {
          setFailed("not logged out: try again");
          return;
        }
      }
    }
    needsLogin.set(true);
  };
  return (
    <span>
      {user?.split("/").at(-1)}{" "}
      <button type="button" class="small" onClick={leave}>
        Log out
      </button>
      {failed !== "" && <strong role="alert"> {failed}</strong>}
    </span>
  );
}
