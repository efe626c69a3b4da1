# ruff: noqa: E501, RUF001  (lists of words, some in IPA, read better in long lines)
"""What the made voices say: backchannels, ways of taking the floor, and sentences by a grammar.

All texts were written for this project. A part in /slashes/ is IPA and goes to the synthesiser
as it is, because spelling it ("mhm") makes the grapheme rules spell it out loud.
"""

from __future__ import annotations

from random import Random

# Each by how often people use it; the first names are by far the commonest in telephone calls.
BACKCHANNELS_EN: dict[str, float] = {
    "yeah": 10, "okay": 8, "right": 6, "/mhˈm/": 6, "/ʌhˈʌ/": 5, "/əmhˈəm/": 4, "/hm̩hˈm/": 2,
    "/mˈm/": 3, "/m/": 2, "/hˈm/": 3, "/ˈʌ/": 1, "/ə/": 1, "yes": 4, "yep": 4, "yup": 2, "sure": 4,
    "oh": 4, "ah": 3, "uh": 1, "um": 1, "I see": 4, "wow": 3, "really": 3, "got it": 3, "good": 2,
    "great": 3, "cool": 3, "nice": 2, "exactly": 3, "true": 2, "alright": 3, "all right": 2,
    "oh okay": 4, "oh wow": 2, "oh really": 2, "oh yeah": 3, "yeah yeah": 4, "yeah yeah yeah": 2,
    "yeah okay": 3, "okay okay": 3, "okay yeah": 2, "right right": 3, "right yeah": 2,
    "yeah right": 2, "no way": 2, "I know": 2, "of course": 2, "gotcha": 2, "interesting": 2,
    "fair enough": 2, "makes sense": 2, "that makes sense": 1, "I got it": 1, "oh I see": 3,
    "ah okay": 3, "okay good": 1, "okay great": 2, "okay cool": 1, "oh good": 2, "oh nice": 1,
    "absolutely": 2, "definitely": 1, "totally": 1, "perfect": 2, "sounds good": 2, "very good": 1,
    "oh my": 1, "oh god": 1, "gosh": 1, "huh": 4, "hmm": 3, "ooh": 1, "aha": 2, "for sure": 1,
    "I understand": 1, "mm yeah": 3, "that's true": 1, "that's right": 2, "I bet": 1, "yeah sure": 2,
    "uh huh": 3, "uh huh yeah": 2, "oh that's good": 1, "well yeah": 1, "no kidding": 1,
    "awesome": 1, "oh no": 1, "oh dear": 1, "amazing": 1, "fine": 1, "mm okay": 2, "ya": 1,
}  # fmt: skip

BACKCHANNELS: dict[str, dict[str, float]] = {
    "en": BACKCHANNELS_EN,
    "es": {
        "sí": 8, "claro": 5, "vale": 5, "ajá": 5, "ya": 4, "sí sí": 4, "bueno": 2, "de acuerdo": 3,
        "exacto": 3, "ah vale": 2, "ah sí": 2, "entiendo": 2, "muy bien": 2, "perfecto": 2, "okey": 3,
        "claro que sí": 1, "/mhˈm/": 4, "ah": 2, "qué bien": 1, "vaya": 1, "no me digas": 1,
    },
    "fr": {
        "oui": 8, "d'accord": 6, "ouais": 6, "ok": 4, "ah oui": 3, "oui oui": 4, "bien sûr": 3,
        "je vois": 3, "exactement": 2, "très bien": 2, "ah bon": 3, "c'est vrai": 2, "voilà": 3,
        "/mhˈm/": 4, "hum": 2, "parfait": 2, "ah d'accord": 2, "super": 1, "c'est ça": 2,
    },
    "de": {
        "ja": 9, "genau": 6, "okay": 5, "gut": 3, "ach so": 4, "aha": 4, "stimmt": 3, "klar": 4,
        "ja ja": 3, "ja genau": 3, "alles klar": 2, "verstehe": 3, "sehr gut": 2, "ach ja": 2,
        "na klar": 1, "richtig": 3, "/mhˈm/": 5, "echt": 2, "wirklich": 2, "super": 1, "jawohl": 1,
    },
    "it": {
        "sì": 8, "certo": 5, "va bene": 5, "ok": 4, "esatto": 3, "sì sì": 4, "capisco": 3, "ah": 2,
        "ho capito": 3, "davvero": 2, "giusto": 2, "perfetto": 2, "/mhˈm/": 4, "bene": 2, "ah ecco": 2,
    },
    "pt": {
        "sim": 7, "claro": 4, "tá": 5, "certo": 5, "tá bom": 4, "entendi": 3, "ok": 3, "isso": 3,
        "é": 3, "ah sim": 2, "uhum": 4, "/mhˈm/": 3, "com certeza": 1, "beleza": 2, "é verdade": 1,
    },
    "hi": {
        "हाँ": 8, "अच्छा": 6, "ठीक है": 5, "जी": 4, "जी हाँ": 3, "सही": 3, "हाँ हाँ": 3, "/mhˈm/": 4,
        "बिल्कुल": 2, "ओके": 3, "समझ गया": 1,
    },
}  # fmt: skip

# Short ways of taking the floor: the caller wants to be heard now.
FLOOR_EN: dict[str, float] = {
    "wait": 8, "stop": 7, "no": 7, "hold on": 7, "sorry": 5, "excuse me": 4, "hang on": 4,
    "one second": 3, "just a second": 3, "wait a minute": 4, "hold on a second": 3, "no no": 4,
    "no no no": 4, "wait wait": 3, "wait wait wait": 2, "listen": 3, "look": 2, "hello": 3,
    "hey": 3, "but": 3, "what": 4, "pardon": 2, "can I ask something": 2, "let me stop you there": 2,
    "actually": 3, "never mind": 2, "cancel": 2, "cancel that": 2, "go back": 2, "repeat that": 2,
    "say that again": 2, "that's wrong": 3, "that's not right": 3, "not that one": 2, "help": 2,
    "operator": 2, "speak to a human": 2, "can I speak to someone": 2, "stop talking": 2,
    "be quiet": 1, "shut up": 1, "please stop": 2, "I have a question": 3, "quick question": 2,
    "what about tomorrow": 1, "how much": 2, "how long": 1, "why": 2, "when": 1, "who is this": 2,
    "which one": 2, "slow down": 2, "can you repeat": 2, "I didn't get that": 2, "skip": 2, "next": 1,
    "I don't want that": 2, "not today": 2, "I'm not interested": 2, "let me think": 2, "wrong": 1,
    "hang on a minute": 2, "stop there": 2, "just stop": 1, "no thanks": 2, "no thank you": 2,
    "no wait": 3, "oh wait": 3, "okay wait": 3, "yeah but": 3, "okay but": 3, "sorry what": 2,
    "um sorry": 2, "uh wait": 2, "well no": 2, "okay stop": 2, "yes but": 2, "right but": 2,
}  # fmt: skip

FLOOR: dict[str, dict[str, float]] = {
    "en": FLOOR_EN,
    "es": {
        "espera": 5, "espere": 3, "para": 4, "no": 5, "perdón": 4, "un momento": 4, "oiga": 3,
        "disculpe": 3, "no no": 3, "eso no": 2, "cómo": 2, "qué": 3, "pero": 2, "basta": 2,
        "una pregunta": 2, "más despacio": 1, "quiero hablar con alguien": 2, "espera un segundo": 2,
    },
    "fr": {
        "attendez": 5, "attends": 3, "stop": 4, "non": 5, "pardon": 4, "excusez-moi": 3, "mais": 2,
        "un instant": 3, "non non": 3, "une question": 2, "arrêtez": 3, "comment": 2, "quoi": 2,
        "ce n'est pas ça": 2, "je voudrais parler à quelqu'un": 2, "pas aujourd'hui": 1,
    },
    "de": {
        "warte": 4, "warten Sie": 4, "stopp": 5, "nein": 6, "Moment": 5, "Entschuldigung": 4,
        "halt": 3, "Moment mal": 4, "nein nein": 3, "aber": 2, "wie bitte": 3, "was": 2,
        "eine Frage": 2, "das stimmt nicht": 3, "ich möchte mit jemandem sprechen": 2, "hallo": 2,
    },
    "it": {
        "aspetta": 5, "aspetti": 3, "ferma": 3, "no": 5, "scusi": 5, "un momento": 4, "basta": 3,
        "no no": 3, "una domanda": 2, "come": 2, "ma": 2, "non è così": 2, "senta": 2,
    },
    "pt": {
        "espera": 5, "pare": 4, "não": 6, "desculpe": 4, "um momento": 4, "não não": 3, "mas": 2,
        "uma pergunta": 2, "como": 2, "quero falar com alguém": 2, "peraí": 3, "isso não": 2,
    },
    "hi": {
        "रुको": 5, "रुकिए": 4, "नहीं": 6, "एक मिनट": 4, "सुनिए": 3, "माफ़ कीजिए": 3, "लेकिन": 2,
        "क्या": 3, "नहीं नहीं": 3, "मुझे कुछ पूछना है": 2,
    },
}  # fmt: skip

# More of them, for the short utterances that are made apart.
FLOOR_MORE: dict[str, float] = {
    "hold up": 3, "pause": 3, "enough": 2, "that's enough": 2, "one moment": 4, "stop it": 2,
    "stop stop": 3, "stop stop stop": 2, "wait no": 3, "no stop": 2, "no no wait": 2, "sorry wait": 2,
    "hello hello": 2, "are you there": 2, "can you hear me": 2, "let me finish": 2, "let me speak": 2,
    "not yet": 2, "start over": 2, "forget it": 2, "undo": 1, "back": 2, "louder": 2, "again": 2,
    "what was that": 2, "come again": 2, "I missed that": 2, "wait what": 3, "hold it": 2, "quiet": 2,
    "excuse me sorry": 1, "question": 2, "nope": 2, "don't": 2, "no don't": 2, "agent": 2, "which": 1,
    "where": 1, "who": 1, "how": 1, "how so": 1, "what do you mean": 2, "ma'am": 1, "sir": 1,
}  # fmt: skip

_OPENERS = (
    "I wanted to", "I need to", "can I", "could you", "can you", "would you", "I'd like to",
    "is it possible to", "how do I", "why can't I", "do I have to", "we should", "let me",
    "I was trying to", "I already tried to", "you said I could", "my husband wants to", "please",
    "I'm calling to", "they told me to", "when can I", "where do I", "should I", "did you", "let's",
    "I forgot to", "I don't want to", "my sister asked me to", "what if I", "I can't", "you need to",
)  # fmt: skip
_VERBS = (
    "change", "cancel", "book", "move", "return", "pay for", "check", "find", "send", "confirm",
    "update", "talk about", "ask about", "look at", "get rid of", "order", "pick up", "renew",
    "read", "write down", "print", "open", "close", "see", "sell", "fix", "replace", "forget about",
    "compare", "explain", "share", "track", "finish", "start", "remove", "keep", "add", "buy",
)  # fmt: skip
_THINGS = (
    "my appointment", "the order", "the flight", "that invoice", "the second one", "my password",
    "the blue jacket", "a table for four", "the delivery address", "my account", "the other offer",
    "this number", "the meeting", "a bigger room", "the contract", "our insurance", "the doctor",
    "that question", "the kitchen light", "the Berlin office", "both tickets", "the printer",
    "another copy", "my brother's phone", "the rental car", "the whole thing", "something cheaper",
    "the recipe", "those shoes", "our subscription", "the invoice from March", "a new battery",
    "the train to Manchester", "the garden fence", "your manager", "the first chapter", "the dog",
    "the address on the letter", "my prescription", "the size", "the parking space", "the music",
    "every single page", "the colour", "the bank transfer", "her email", "the front door", "lunch",
)  # fmt: skip
_TAILS = (
    "", "", "", "today", "tomorrow morning", "by Friday", "before noon", "next week", "again",
    "for my mother", "without paying", "on the website", "with a credit card", "at the airport",
    "because it never arrived", "instead", "right now", "if that's possible", "for two people",
    "since it's too expensive", "when I get home", "in the other building", "from the list",
    "at half past seven", "please", "as soon as possible", "over the phone", "in December",
)  # fmt: skip
_STATEMENTS = (
    "that's not what I meant", "the address is {n} {street}", "I said {n} not {m}", "it costs too much",
    "my name is {name}", "her name is {name}", "it was {name} who called", "I live in {street}",
    "we've been waiting for {n} days", "it's still not working", "there are only {n} left",
    "he told me {n} euros", "you already asked me that", "I've heard this before",
    "what time does it open", "how many people are coming", "which one is cheaper", "is {name} there",
    "do you have anything else", "what do you mean by that", "where did you get that number",
    "are you a real person", "am I talking to a machine", "does that include breakfast",
    "the last time I called it was different", "nobody told me about the fee", "I don't think so",
    "I think you misunderstood", "it's the one on the left", "turn it down a little",
    "what about the weekend", "could we do {n} o'clock", "make it {n} instead of {m}",
    "I have to go in {n} minutes", "my son is sick", "somebody is at the door", "it starts at {n}",
    "the number ends in {n} {m}", "there's a problem with the heating", "the screen went black",
    "I don't remember the code", "just tell me the price", "why is it so expensive",
    "what's the weather like in {street}", "I was born in nineteen {n}", "maybe another time",
    "so what happens after that", "and then what do I do", "because we moved in {m} years ago",
    "that depends on the price", "and my wife is allergic to nuts", "not the red one the green one",
    "if it rains we stay at home", "they never called me back", "ninety percent of it is gone",
    "which bus goes to {street}", "give me {n} of those", "tell {name} I'll be late",
    "I paid on the {n}th", "we only need one bag", "the door was already open", "it smells of smoke",
    "skip to the end", "go back to the beginning", "that was {name}'s idea", "my flight is at {n}",
)  # fmt: skip
_NUMBERS = ("two", "three", "five", "seven", "nine", "twelve", "fifteen", "twenty", "thirty-one",
            "forty", "fifty-six", "sixty", "seventy-eight", "ninety", "four", "eleven", "six")  # fmt: skip
_STREETS = ("Baker Street", "Oak Avenue", "Madrid", "Church Lane", "Hamburg", "Park Road", "Dublin",
            "Mill Street", "Denver", "Victoria Square", "Lisbon", "Chestnut Hill", "Nairobi")  # fmt: skip
_NAMES = ("Peter", "Maria", "Doctor Singh", "Anna", "Mister Cooper", "Joanna", "Ahmed", "Lucy",
          "Miss Chen", "Tobias", "Olivia", "Carlos", "Hannah", "Vincent", "Sofia", "George")  # fmt: skip

SENTENCES: dict[str, tuple[str, ...]] = {
    "es": (
        "quiero cambiar mi cita", "cuánto cuesta el envío", "no he recibido el paquete",
        "puede repetir la dirección", "necesito hablar con un agente", "mañana no puedo ir",
        "me llamo Fernando García", "la factura está equivocada", "a qué hora abren", "prefiero el azul",
        "eso no es lo que pedí", "llevo veinte minutos esperando", "dónde está mi pedido",
        "tengo una pregunta sobre la garantía", "el número es seis cuatro nueve", "somos tres personas",
    ),
    "fr": (
        "je voudrais changer mon rendez-vous", "combien ça coûte", "je n'ai pas reçu le colis",
        "vous pouvez répéter l'adresse", "il me faut une facture", "demain je ne peux pas venir",
        "je m'appelle Camille Dupont", "c'est pour deux personnes", "à quelle heure vous ouvrez",
        "ce n'est pas ce que j'ai demandé", "j'attends depuis vingt minutes", "le numéro est faux",
        "pourquoi c'est si cher", "j'ai une question sur la garantie", "plutôt la semaine prochaine",
    ),
    "de": (
        "ich möchte meinen Termin verschieben", "was kostet der Versand", "das Paket ist nicht da",
        "können Sie die Adresse wiederholen", "ich brauche eine Rechnung", "morgen geht es nicht",
        "mein Name ist Thomas Becker", "das ist für drei Personen", "wann machen Sie auf",
        "das habe ich nicht bestellt", "ich warte seit zwanzig Minuten", "die Nummer ist falsch",
        "warum ist das so teuer", "ich habe eine Frage zur Garantie", "lieber nächste Woche",
    ),
    "it": (
        "vorrei cambiare l'appuntamento", "quanto costa la spedizione", "il pacco non è arrivato",
        "può ripetere l'indirizzo", "mi serve una fattura", "domani non posso venire",
        "mi chiamo Giulia Rossi", "siamo in quattro", "a che ora aprite", "non è quello che ho chiesto",
        "aspetto da venti minuti", "il numero è sbagliato", "perché costa così tanto",
    ),
    "pt": (
        "quero mudar a minha consulta", "quanto custa a entrega", "o pacote não chegou",
        "pode repetir o endereço", "preciso de uma nota fiscal", "amanhã eu não posso",
        "meu nome é Paulo Ferreira", "somos três pessoas", "a que horas abre", "não foi isso que pedi",
        "estou esperando há vinte minutos", "o número está errado", "por que é tão caro",
    ),
    "hi": (
        "मुझे अपना समय बदलना है", "इसका दाम कितना है", "मेरा सामान नहीं आया", "पता फिर से बताइए",
        "मुझे किसी से बात करनी है", "कल मैं नहीं आ सकता", "मेरा नाम राहुल शर्मा है",
        "यह मैंने नहीं मँगाया", "मैं बीस मिनट से इंतज़ार कर रहा हूँ", "नंबर गलत है",
    ),
}  # fmt: skip


def chosen(rng: Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def sentence(rng: Random, language: str = "en") -> str:
    """A sentence without capitals or final stop; English ones come from a grammar."""
    if language != "en":
        return rng.choice(SENTENCES[language])
    if rng.random() < 0.4:
        n, m = rng.sample(_NUMBERS, 2)
        return rng.choice(_STATEMENTS).format(
            n=n, m=m, street=rng.choice(_STREETS), name=rng.choice(_NAMES)
        )
    words = [rng.choice(_OPENERS), rng.choice(_VERBS), rng.choice(_THINGS), rng.choice(_TAILS)]
    return " ".join(word for word in words if word)
